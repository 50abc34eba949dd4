use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, Context, Result};
use clap::Args;
use console::style;
use spilman::regtest::Node;
use spilman::scenario;
use spilman::transcript::{sat, story, BalanceComparison, Transcript};

use super::core_option::Core;
use super::out;
use super::stop::{Stop, INTERRUPTED};

/// The documents' three channels, each with its good ending, and the second of them once more on the newest construction.
const STORIES: [(&str, &str); 4] = [
    (
        "p2sh/stepped-locktime/settled",
        "The article: Alice pays Bob 100 satoshi, many times, out of 1,000",
    ),
    (
        "p2sh/example-7/session-end",
        "The wiki's Example 7: rapidly adjusted payments out of 10 BTC",
    ),
    (
        "p2sh/bond/two-days",
        "The guide: Bob pays Alice 1 millidash for every forum post that she reads, out of 100",
    ),
    (
        "taproot/example-7/closed-together",
        "Today: Example 7 on Taproot, without a co-signed refund, and closed with one signature",
    ),
];

/// The story that has a separate payment to compare with.
const COMPARED: &str = STORIES[2].0;

#[derive(Args)]
pub struct Demo {
    /// Also write timeline, JSON and every raw transaction into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    core: Core,
}

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        let stop = Stop::on_signals()?;
        let core = self.core.find()?.path;
        if let Some(dir) = &self.out {
            out::prepare(dir)?;
        }
        super::print(INTRODUCTION)?;
        eprintln!("starting {} nodes, one for each story …", STORIES.len());
        // All at once, because a node waits for a good part of its start; told one after the other.
        let played = STORIES.map(|(name, _)| {
            let node = Node::builder().program(&core);
            std::thread::spawn(move || -> Result<Transcript> {
                let scenario = scenario::find(name).with_context(|| format!("no scenario {name}"))?;
                Ok(scenario.run(node)?)
            })
        });
        // All are waited for before anything can fail, so that no node outlives this process.
        let played = played.map(std::thread::JoinHandle::join);
        if stop.is_set() {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let mut costs = None;
        for ((number, played), (_, title)) in (1..).zip(played).zip(STORIES) {
            let transcript = played.map_err(|_| anyhow!("story {number} panicked"))??;
            let heading = style(format!("══ {number}. {title} ")).bold();
            super::print(&format!("\n{heading}\n\n{}", paint(&story(&transcript))))?;
            if let Some(dir) = &self.out {
                let folder = out::write(dir, &transcript)?;
                super::print(&format!("\n  written to {}\n", folder.display()))?;
            }
            if transcript.scenario == COMPARED {
                costs = BalanceComparison::of(&transcript, &["funding", "payment-3"], "separate-payment");
            }
        }
        let costs = costs.with_context(|| format!("{COMPARED} has no separate payment"))?;
        super::print(&sum(&costs)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

const INTRODUCTION: &str = "\
A one-way payment channel: the payer locks money in an output that both must sign to spend. Then it pays by
signing, again and again, how that output is divided. Only two transactions reach the chain: the one
that locks the money, and the last division. A refund, signed before anything is locked, protects the payer
if the payee disappears; or the output itself lets the payer take everything back after a lock.

Four stories follow, each on a separate bitcoind. Every transaction is real: copy its raw hex into
`bitcoin-cli -regtest decoderawtransaction` to check it.
";

/// Headings stand out on a terminal; elsewhere they stay as they are.
fn paint(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let painted = match line.trim_start() {
            heading if heading.starts_with('#') => style(line).bold().to_string(),
            message if message.starts_with("payer ──▶") || message.starts_with("payer ◀──") => {
                style(line).cyan().to_string()
            }
            why if why.starts_with("Why:") => style(line).dim().to_string(),
            chain if chain.contains(": accepted") => style(line).green().to_string(),
            chain if chain.contains(": rejected") => style(line).yellow().to_string(),
            _ => line.to_owned(),
        };
        out.push_str(&painted);
        out.push('\n');
    }
    out
}

/// The guide's own sum, from the fees of the raw transactions above.
fn sum(costs: &BalanceComparison) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "\n{}\n\nBob feared that hundreds of small payments would cost him thousands in fees. At the feerate of \
         the story:\n\n  {:>9}  {:>17}  {:>12}\n",
        style("══ The costs").bold(),
        "payments",
        "each separately",
        "one channel"
    );
    for payments in [1, costs.break_even(), 10, 100, 300] {
        let separately = sat(costs.separately(payments));
        writeln!(
            text,
            "  {payments:>9}  {separately:>17}  {:>12}",
            sat(costs.channel)
        )?;
    }
    writeln!(
        text,
        "\nThe channel's two transactions are cheaper from {} payments on, however many follow.",
        costs.break_even()
    )?;
    Ok(text)
}
