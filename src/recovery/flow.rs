//! How the application is treated around the exchange: what is told to read its files again.

use super::engine::Step;
use super::reload::{Reload, Reloading};
use super::steps::Around;
use serde::{Deserialize, Serialize};

/// What is done around the exchange; enough to make the steps anew after a crash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Who reads its files again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<Reload>,
}

impl Flow {
    /// True when nothing is done.
    pub fn is_empty(&self) -> bool {
        *self == Flow::default()
    }

    /// The steps.
    pub fn around(&self) -> Around {
        let reloading = |on_the_way_back| {
            let what = self.reload.clone();
            let step = Reloading { what, on_the_way_back };
            (!self.reload.is_empty()).then(|| Box::new(step) as Box<dyn Step>)
        };
        let mut around = Around::default();
        around.away.extend(reloading(true));
        around.swapped.extend(reloading(false));
        around
    }
}
