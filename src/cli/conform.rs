use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::Args;
use console::style;
use spilman::channel::{Construction, Protocol};
use spilman::conform::{cases, to_json, Case, CaseResult, Group, Runner, Verdict};
use spilman::regtest::{FoundBinary, Node};
use spilman::transcript::Side;

use super::choose::is_meant;
use super::core_option::Core;
use super::out;
use super::side_by_side::{default_jobs, play_in_order, progress};
use super::stop::{Stop, INTERRUPTED};

const EXAMPLE: &str = "\
Examples:
  spilman conform --payee 'python3 payee.py' --construction p2wsh
  spilman conform --payer ./payer p2wsh/example-7/closed-by-payee --out out
  spilman conform --payee ./payee 'refuses-*' --json > report.json
  spilman conform --payee 'spilman peer'      this crate's own payee passes

The program is started for each case, by `sh -c`, with a separate node. It speaks the wire format on its standard \
input and output. The environment variable SPILMAN_CASE holds keys, terms and the node's RPC as one JSON object. In the \
cases `resumes-*` the program is killed and started again, and finds what it has kept in a folder; a program that says \
no hello does not resume, and these cases are not applicable. \
Standard error is shown if a case fails. fixtures/WIRE.md specifies the messages, the transactions, and, in the chapter \
\"Conformance\", this contract.

A filter is a case's name or a part of it, such as `p2wsh/bond` or `refuses-*`; without one, every case is played. \
Exit code: 0 all passed, 1 some failed, 2 the command line is wrong, 130 interrupted.";

/// Tests another implementation's payer or payee: plays the other side on a real node, honest, vanishing, malicious, or
/// coming back.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
#[group(id = "program", required = true, multiple = false, args = ["payee", "payer"])]
pub struct Conform {
    /// The command that starts a program as the payee.
    #[arg(long, value_name = "COMMAND")]
    payee: Option<String>,
    /// The command that starts a program as the payer.
    #[arg(long, value_name = "COMMAND")]
    payer: Option<String>,
    /// Only cases on this construction; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Construction::ALL.map(Construction::name)))]
    construction: Vec<String>,
    /// Only cases of this protocol; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Protocol::ALL.map(Protocol::name)))]
    protocol: Vec<String>,
    /// Only these cases, by their names or parts of them.
    filter: Vec<String>,
    /// How long the program may take for each step, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Write timeline, JSON and every raw transaction into this folder, a folder for each case.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Only list the cases.
    #[arg(long, conflicts_with_all = ["json", "out"])]
    list: bool,
    #[command(flatten)]
    core: Core,
    /// How many cases to play at once.
    #[arg(long, value_name = "N", default_value_t = default_jobs(), value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
}

impl Conform {
    pub fn run(self) -> Result<ExitCode> {
        let side = if self.payee.is_some() {
            Side::Payee
        } else {
            Side::Payer
        };
        let chosen = match self.choose(side) {
            Ok(chosen) => chosen,
            Err(none) => {
                eprintln!("spilman: {none}");
                return Ok(ExitCode::from(super::USAGE));
            }
        };
        if self.list {
            let line = |case: &Case| format!("{:<58} {}\n", case.name(), case.summary());
            super::print(&chosen.iter().map(line).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        }
        let stop = Stop::on_signals()?;
        let core = self.core.find_for(chosen.len())?;
        if let Some(dir) = &self.out {
            out::prepare(dir)?;
        }
        let Some(played) = self.play(&chosen, side, &core, &stop)? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        let text = if self.json {
            format!("{:#}\n", to_json(self.command(), side, &played))
        } else {
            summary(&played, &core.version)
        };
        super::print(&text)?;
        let passed = played.iter().all(|(_, played)| played.verdict.is_ok());
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Plays the cases, and tells each result at once. None if interrupted.
    fn play<'a>(
        &self,
        chosen: &'a [Case],
        side: Side,
        core: &FoundBinary,
        stop: &Stop,
    ) -> Result<Option<Vec<(&'a Case, CaseResult)>>> {
        let runner = Runner::new(self.command(), side).deadline(Duration::from_secs(self.deadline));
        let bar = progress(chosen.len(), "cases");
        let mut played = Vec::new();
        let play = |case: &Case| {
            let start = Instant::now();
            let played = runner.play(case, Node::builder().program(&core.path), stop.flag());
            (played, start.elapsed())
        };
        play_in_order(self.jobs, chosen, stop, play, |case, (one, took)| {
            if one.interrupted {
                return Ok(());
            }
            bar.suspend(|| self.tell(case, &one, took))?;
            bar.inc(1);
            played.push((case, one));
            Ok(())
        })?;
        bar.finish_and_clear();
        if stop.is_set() {
            eprintln!("interrupted");
            return Ok(None);
        }
        Ok(Some(played))
    }

    fn command(&self) -> &str {
        let given = self.payee.as_deref().or(self.payer.as_deref());
        given.expect("one of both is required")
    }

    /// The cases that every option allows.
    fn choose(&self, side: Side) -> Result<Vec<Case>, String> {
        let all = cases(side);
        for pattern in &self.filter {
            if !all.iter().any(|case| is_meant(pattern, case.name())) {
                return Err(format!(
                    "no case for a {side} is named '{pattern}'; --list shows all {}",
                    all.len()
                ));
            }
        }
        let one_of =
            |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
        let is_chosen = |case: &Case| {
            one_of(&self.construction, case.construction().name())
                && one_of(&self.protocol, case.protocol().name())
                && (self.filter.is_empty()
                    || self.filter.iter().any(|pattern| is_meant(pattern, case.name())))
        };
        let chosen: Vec<_> = all.into_iter().filter(is_chosen).collect();
        if chosen.is_empty() {
            return Err("--construction, --protocol and the filters together match no case".to_owned());
        }
        Ok(chosen)
    }

    fn tell(&self, case: &Case, played: &CaseResult, took: Duration) -> Result<()> {
        let folder = match &self.out {
            Some(dir) => Some(out::write(dir, &played.transcript)?),
            None => None,
        };
        if self.json {
            return Ok(());
        }
        let verdict = match played.outcome() {
            Verdict::Passed => style("ok    ").green(),
            Verdict::Failed => style("FAILED").red().bold(),
            Verdict::NotApplicable => style("n/a   ").yellow(),
        };
        let count = played.transcript.transactions.len();
        let mut text = format!(
            "{verdict} {:<66} {:>5.2} s  {count} transactions\n",
            case.name(),
            took.as_secs_f32(),
        );
        if let Some(why) = &played.not_applicable {
            let _ = writeln!(text, "       {why}");
        }
        if let Err(failure) = &played.verdict {
            text += &explain(self.command(), failure, &played.stderr);
            let _ = match folder {
                Some(folder) => writeln!(
                    text,
                    "       the timeline and every transaction are in {}",
                    folder.display()
                ),
                None => writeln!(
                    text,
                    "       use --out DIR to keep the timeline and every transaction"
                ),
            };
        }
        super::print(&text)?;
        Ok(())
    }
}

fn explain(command: &str, failure: &spilman::conform::CaseFailure, stderr: &str) -> String {
    /// The number of the program's last lines shown; the JSON report has more.
    const LINES: usize = 10;
    let mut text = format!(
        "       program:   {command}\n       at stage:  {}\n       expected:  {}\n       seen:      {}\n",
        failure.stage(),
        failure.expected(),
        failure.seen()
    );
    let lines: Vec<_> = stderr.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        let line: String = line
            .chars()
            .filter(|letter| !letter.is_control())
            .take(300)
            .collect();
        let _ = writeln!(text, "       stderr:    {line}");
    }
    text
}

fn summary(played: &[(&Case, CaseResult)], core: &str) -> String {
    let count = |group: Option<Group>, wanted: Verdict| {
        let of_group = played
            .iter()
            .filter(|(case, _)| group.is_none_or(|group| case.group() == group));
        of_group.filter(|(_, played)| played.outcome() == wanted).count()
    };
    let beside = |group: Option<Group>| match count(group, Verdict::NotApplicable) {
        0 => String::new(),
        cases => format!(", {cases} not applicable"),
    };
    let mut text = "\n".to_owned();
    for group in Group::ALL {
        let (passed, failed) = (
            count(Some(group), Verdict::Passed),
            count(Some(group), Verdict::Failed),
        );
        let rest = beside(Some(group));
        if passed + failed > 0 || !rest.is_empty() {
            let _ = writeln!(text, "{group:<10} {passed} of {}{rest}", passed + failed);
        }
    }
    let (passed, failed) = (count(None, Verdict::Passed), count(None, Verdict::Failed));
    let _ = writeln!(
        text,
        "{passed} passed, {failed} failed{}, on {core}",
        beside(None)
    );
    text
}
