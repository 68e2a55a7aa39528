//! Comparisons and correlations over branches and seeds.

pub mod agreement;
pub mod arms;
pub mod beside;
pub mod bootstrap;
pub mod compare;
pub mod correlate;
pub mod correlation;
pub mod intervals;
pub mod items;
pub mod kappa;
pub mod markdown;
pub mod metric;
pub mod paired;
pub mod significance;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<compare::Compare>().with::<correlate::Correlate>().with::<agreement::StatsAgreement>()
}
