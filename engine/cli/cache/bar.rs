//! The bar of work on a whole cache: what is done, how far it is. Nothing where nobody looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use plumb_cache::Progress;

use crate::context::Context;

/// Work that goes on; the bar goes away when dropped.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// Of work whose length is not known yet, or never.
    pub fn new(context: &Context, doing: &'static str) -> Bar {
        let bar = context.printer.bars().map(|bars| bars.add(ProgressBar::no_length()));
        if let Some(bar) = &bar {
            style(bar, "{spinner} {msg}  {elapsed}");
            bar.set_message(doing);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Bar(bar)
    }

    /// The bytes in all, or some that were done.
    pub fn show(&self, progress: Progress) {
        let Some(bar) = &self.0 else { return };
        match progress {
            Progress::Total(bytes) => {
                bar.set_length(bytes);
                style(bar, "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}");
            }
            Progress::Hashed(bytes) => bar.inc(bytes),
        }
    }
}

fn style(bar: &ProgressBar, template: &str) {
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
