//! Commands from standard input: a program that pays keeps one process, and its connections.

use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Parser};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

use super::session::Session;
use super::Order;
use crate::cli::told;

#[derive(Parser)]
#[command(no_binary_name = true)]
struct OrderLine {
    #[command(subcommand)]
    order: Order,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  printf 'pay 4f1c --more 250\\npay 7a02 --more 10\\n' | spilman payer orders

Orders run at once, so wait for an answer before you send what depends on it. Each answer has the number of its line: \
{\"order\":1,\"answer\":{…}} or {\"order\":1,\"error\":\"…\"}.")]
pub struct Orders {
    /// End when standard input ends, without waiting for answers: for a program that starts this one.
    #[arg(long)]
    until_stdin_ends: bool,
}

impl Orders {
    pub async fn run(&self, session: Session) -> Result<()> {
        let mut running = take(session).await?;
        if self.until_stdin_ends {
            return Ok(());
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// Starts what each line asks for, until there are no more lines.
async fn take(session: Session) -> Result<JoinSet<Result<()>>> {
    let session = Arc::new(session);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut running = JoinSet::new();
    let mut number = 0_u64;
    while let Some(line) = lines.next_line().await? {
        number += 1;
        let session = Arc::clone(&session);
        running.spawn(async move { answer(&session, number, &line).await });
        // What is done is out of the way.
        while let Some(done) = running.try_join_next() {
            done??;
        }
    }
    Ok(running)
}

async fn answer(session: &Session, number: u64, line: &str) -> Result<()> {
    let answer = match OrderLine::try_parse_from(line.split_whitespace()) {
        Ok(line) => match line.order.run(session).await {
            Ok(answer) => json!({ "order": number, "answer": answer.json() }),
            Err(error) => json!({ "order": number, "error": told(&error) }),
        },
        // What comes after it is how to get help.
        Err(error) => {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default();
            let said: Vec<_> = said.split_whitespace().collect();
            json!({ "order": number, "error": said.join(" ") })
        }
    };
    Ok(crate::cli::print(&format!("{answer}\n"))?)
}
