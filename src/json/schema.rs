//! JSON Schemas of types that serde does not derive.

/// Implements `JsonSchema` for a type under its name, where fixtures are.
macro_rules! schema {
    ($type:ident, $schema:tt) => {
        #[cfg(feature = "fixtures")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use schema;
