use super::world::World;
use super::{Playing, Scenario};
use crate::channel::{Construction, Protocol};

/// A story as it stands in a table: it is told on every construction that it goes with.
pub(super) struct ScenarioTemplate {
    pub name: &'static str,
    pub summary: &'static str,
    /// On which constructions.
    pub on: fn(Construction) -> bool,
    pub play: for<'w> fn(&'w mut World) -> Playing<'w>,
}

impl ScenarioTemplate {
    pub fn scenario(&self, protocol: Protocol, construction: Construction) -> Scenario {
        Scenario::new(protocol, self.name, self.summary, Box::new(self.play)).on(construction)
    }
}

/// The stories of a table that go with this construction.
pub(super) fn told(
    stories: &'static [ScenarioTemplate],
    construction: Construction,
) -> impl Iterator<Item = &'static ScenarioTemplate> {
    stories.iter().filter(move |story| (story.on)(construction))
}

/// On every construction.
pub(super) const fn always(_: Construction) -> bool {
    true
}

/// Where the payee signs the refund before the funding transaction is let go.
pub(super) const fn is_co_signed(construction: Construction) -> bool {
    !construction.has_script_refund()
}

/// Where the end takes a signature of each side.
pub(super) const fn closes_with_two_keys(construction: Construction) -> bool {
    !construction.closes_with_one_key()
}
