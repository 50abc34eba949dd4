use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use console::style;
use serde_json::json;
use spilman::channel::{Construction, Protocol};
use spilman::scenario::{self, Scenario};

use super::choose::{choose, HOW};

/// Lists the scenarios, with counts per construction and protocol, and a summary of each.
#[derive(Args)]
#[command(after_help = HOW)]
pub struct List {
    /// Only these: names of scenarios, or parts of names, such as `taproot` or `p2wsh/bond`.
    scenarios: Vec<String>,
    /// As JSON: name, protocol, construction, summary.
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let scenarios = if self.scenarios.is_empty() {
            scenario::all()
        } else {
            match choose(&self.scenarios) {
                Ok(chosen) => chosen,
                Err(unknown) => {
                    eprintln!("spilman: {unknown}");
                    return Ok(ExitCode::from(super::USAGE));
                }
            }
        };
        let text = if self.json {
            json(&scenarios)
        } else {
            [matrix(&scenarios), list(&scenarios), end(&scenarios)].concat()
        };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn json(scenarios: &[Scenario]) -> String {
    let list = scenarios.iter().map(|scenario| {
        json!({
            "name": scenario.name(),
            "protocol": scenario.protocol().name(),
            "construction": scenario.construction().name(),
            "summary": scenario.summary(),
        })
    });
    format!("{:#}\n", list.collect::<serde_json::Value>())
}

/// How many there are of each protocol on each construction, with the funding output of each.
fn matrix(scenarios: &[Scenario]) -> String {
    let mut text = format!("{:<12}", "");
    for protocol in Protocol::ALL {
        let _ = write!(text, "{:<18}", protocol.name());
    }
    text.push_str("funding output\n");
    for construction in Construction::ALL {
        let on: Vec<_> = scenarios
            .iter()
            .filter(|s| s.construction() == construction)
            .collect();
        if on.is_empty() {
            continue;
        }
        // Painted after it is filled up, because colours count as letters.
        let _ = write!(text, "{}", style(format!("{:<12}", construction.name())).bold());
        for protocol in Protocol::ALL {
            let count = on.iter().filter(|s| s.protocol() == protocol).count();
            let count = if count == 0 {
                "–".to_owned()
            } else {
                count.to_string()
            };
            let _ = write!(text, "{count:<18}");
        }
        let _ = writeln!(text, "{}", construction.template());
    }
    text
}

fn list(scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    let mut group = None;
    for scenario in scenarios {
        let (construction, protocol) = (scenario.construction(), scenario.protocol());
        if group != Some((construction, protocol)) {
            let title = style(format!("{construction}/{protocol}")).bold();
            let _ = writeln!(text, "\n{title}");
            group = Some((construction, protocol));
        }
        let story = scenario.name().rsplit('/').next().unwrap_or_default();
        let _ = writeln!(text, "  {}\n      {}", style(story).cyan(), scenario.summary());
    }
    text
}

fn end(scenarios: &[Scenario]) -> String {
    format!(
        "\n{} scenarios. Play some: spilman run taproot, spilman run p2wsh/bond, spilman run {}, spilman run --all\n",
        scenarios.len(),
        scenarios.first().map_or("--help", Scenario::name),
    )
}
