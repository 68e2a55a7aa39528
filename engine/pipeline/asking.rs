//! Reads whom a stage asks, and how much: `endpoint`, `max_requests` and `max_cost` of its `run` table. Manner only.

use toml::de::DeValue;

use super::settings::{count, time, variable};
use super::table::{self, Complaints, Fields, Item};
use crate::settings::{Asking, Endpoint};

pub fn take(fields: &mut Fields<'_>, complaints: &mut Complaints) -> Asking {
    let endpoint = fields.take("endpoint").and_then(|item| endpoint(item, complaints));
    let most = |item: Item<'_>, complaints: &mut Complaints| {
        table::whole(&item, "`max_requests`", 0..1_000_000_001, complaints)
    };
    let max_requests = fields.take("max_requests").and_then(|item| most(item, complaints));
    let max_cost = fields.take("max_cost").and_then(|item| price(&item, "`max_cost`", complaints));
    Asking { endpoint, max_requests, max_cost }
}

fn endpoint(item: Item<'_>, complaints: &mut Complaints) -> Option<Endpoint> {
    let mut fields = Fields::of(item, "`endpoint`", complaints)?;
    let span = fields.span.clone();
    let mut endpoint = Endpoint::default();
    let url = fields.text("url", complaints);
    endpoint.api_key = fields.text("api_key", complaints).and_then(|name| variable(&name, complaints));
    endpoint.concurrency = count(&mut fields, "concurrency", 1, complaints).unwrap_or(endpoint.concurrency);
    if let Some(text) = fields.text("timeout", complaints) {
        endpoint.timeout = time(&text, complaints).unwrap_or(endpoint.timeout);
    }
    if let Some(item) = fields.take("max_retries") {
        let times =
            table::whole(&item, "`max_retries`", 0..101, complaints).and_then(|times| u32::try_from(times).ok());
        endpoint.max_retries = times.unwrap_or(endpoint.max_retries);
    }
    let of = |name: &'static str, fields: &mut Fields<'_>, complaints: &mut Complaints| {
        fields.take(name).and_then(|item| price(&item, &format!("`{name}`"), complaints)).unwrap_or(0.0)
    };
    endpoint.prompt_price = of("prompt_price", &mut fields, complaints);
    endpoint.completion_price = of("completion_price", &mut fields, complaints);
    fields.finish("endpoint", complaints);
    let Some(url) = url else {
        complaints.error(span, "`endpoint` does not say its `url`, as \"http://127.0.0.1:8000/v1\"");
        return None;
    };
    if !url.get_ref().starts_with("http://") && !url.get_ref().starts_with("https://") {
        complaints.error(url.span(), format!("`{}` is no http address", url.get_ref()));
        return None;
    }
    endpoint.url = url.get_ref().trim_end_matches('/').to_string();
    Some(endpoint)
}

fn price(item: &Item<'_>, name: &str, complaints: &mut Complaints) -> Option<f64> {
    let number = match item.get_ref() {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(number) => number.as_str().replace('_', "").parse().ok(),
        _ => None,
    };
    let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
    if number.is_none() {
        complaints.error(item.span(), format!("{name} is no amount: write a number, 0 or more"));
    }
    number
}
