//! Cargo wants a target in every manifest; these manifests exist for their lock files alone.
