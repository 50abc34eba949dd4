use std::process::ExitCode;

use clap::Args;
use console::style;
use serde_json::json;
use spilman::scenario;

#[derive(Args)]
pub struct List {
    /// As JSON: name, protocol, construction, summary.
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let scenarios = scenario::all();
        if self.json {
            let list = scenarios.iter().map(|scenario| {
                json!({
                    "name": scenario.name(),
                    "protocol": scenario.protocol().name(),
                    "construction": scenario.construction().name(),
                    "summary": scenario.summary(),
                })
            });
            super::print(&format!("{:#}\n", list.collect::<serde_json::Value>()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut protocol = None;
        for scenario in &scenarios {
            if protocol != Some(scenario.protocol()) {
                let gap = if protocol.is_some() { "\n" } else { "" };
                let construction = scenario.construction();
                let title = style(scenario.protocol().name()).bold();
                super::print(&format!("{gap}{title} (construction {construction})\n"))?;
                protocol = Some(scenario.protocol());
            }
            super::print(&format!(
                "  {}\n      {}\n",
                style(scenario.name()).cyan(),
                scenario.summary()
            ))?;
        }
        super::print(&format!(
            "\n{} scenarios. Play some: spilman run bond, spilman run {}, spilman run --all\n",
            scenarios.len(),
            scenarios[0].name(),
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
