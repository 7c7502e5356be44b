//! The log, the panics and the metrics of a process that runs for long.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::out;
use crate::http::{Config, Server, own_token};
use crate::visible;

/// Installs a panic hook that escapes messages with control characters: the text may come from a task. All other panics
/// go to the hook that was installed before.
pub(super) fn panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|s| &**s));
        let Some(text) = text.filter(|text| visible::first_hidden(text).is_some()) else { return before(info) };
        let thread = std::thread::current();
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        out::note(&format!("thread '{}' panicked{place}: {text}", thread.name().unwrap_or("<unnamed>")));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            trace.to_string().lines().for_each(out::note);
        }
    }));
}

/// Writes what goes wrong to stderr, or what `RUST_LOG` asks for, unless the program sees to that itself.
pub(super) fn log() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| out::Lines).with_ansi(false);
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

/// Where `/metrics` has what this process counts, besides the gauges of the store. Asked before there is an app, for
/// what was counted before is lost.
#[cfg(feature = "prometheus")]
pub(super) fn counted(config: Config) -> Config {
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    /// Up to five minutes, in seconds.
    const BUCKETS: [f64; 11] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 150.0, 300.0];
    /// So often what histograms have taken is put into their buckets.
    const RHYTHM: std::time::Duration = std::time::Duration::from_secs(5);
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS);
    // A program that has a recorder of its own keeps it.
    let Ok(Ok(recorded)) = builder.map(PrometheusBuilder::install_recorder) else { return config };
    let upkeep = recorded.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RHYTHM).await;
            upkeep.run_upkeep();
        }
    });
    config.metrics(move || recorded.render())
}

#[cfg(not(feature = "prometheus"))]
pub(super) fn counted(config: Config) -> Config {
    config
}

/// Where a browser finds the tasks. On a terminal it has the token with it, behind the `#`, which no server is sent.
pub(super) fn page(server: &Server, no_auth: bool) -> Option<String> {
    let mut address = server.address()?;
    if address.ip().is_unspecified() {
        let ip: std::net::IpAddr = match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(ip);
    }
    let url = format!("http://{address}/");
    if no_auth || !std::io::stderr().is_terminal() {
        return Some(url);
    }
    let named = std::env::var("QTASKS_TOKEN").ok().filter(|token| !token.is_empty());
    let plain = |token: &String| token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    Some(match named.or_else(|| own_token().ok().flatten()).filter(plain) {
        Some(token) => format!("{url}#token={token}"),
        None => url,
    })
}
