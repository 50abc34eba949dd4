//! Cases in which the connection breaks: the program is killed and started again, and both sides resume the channel.

mod cases;
mod hand;
mod lies;
mod our_side;
mod pay;
mod receive;

use std::fs;
use std::io;
use std::path::Path;

use bitcoin::{Amount, OutPoint};

use super::agreed::AgreedChannel;
use super::case::InterferenceRule;
use super::failure::{CaseFailure, Stop};
use super::run::Run;
use super::runner::Launcher;
use crate::channel::{MessageKind, ResumedState};
use crate::store::StoredChannel;
use crate::transcript::Side;
pub(super) use cases::Resumption;
use our_side::OurParties;

/// The name of the stage in which a channel is resumed.
const STAGE: &str = "resuming";

pub(super) async fn play(launcher: &Launcher<'_>) -> Result<(), Stop> {
    let Some(resumption) = launcher.case.resumption else {
        return Err(CaseFailure::runner("a case without a resumption").into());
    };
    let mut lives = Lives::new(launcher);
    lives.live(launcher.case.rule).await?;
    match resumption {
        Resumption::Plain => {}
        Resumption::Reorganised => lives.reorganise()?,
        Resumption::OlderCopy(side) => {
            let copy = lives.copy()?;
            lives.live(Some(cases::closes(launcher.case))).await?;
            lives.restore(side, copy)?;
        }
        Resumption::Lie(lie) => lives.lie(lie).await?,
        Resumption::Stranger => return Ok(lives.stranger().await?),
    }
    lives.live(None).await
}

/// What outlives a connection of ours.
struct Lives<'a> {
    launcher: &'a Launcher<'a>,
    agreed: Option<AgreedChannel>,
    stored: Vec<StoredChannel>,
    /// What the program must not have forgotten: its last payment, or its last acknowledgement.
    said: Option<Amount>,
    /// It has said *closed*, which it must not have forgotten either.
    closed: bool,
    /// The funding transaction is unconfirmed again.
    unconfirmed: bool,
    /// The connection breaks, on this one.
    breaks: bool,
}

/// What both sides held at some time.
struct Copied {
    stored: Vec<StoredChannel>,
    said: Option<Amount>,
}

impl<'a> Lives<'a> {
    const fn new(launcher: &'a Launcher<'a>) -> Self {
        Self {
            launcher,
            agreed: None,
            stored: Vec::new(),
            said: None,
            closed: false,
            unconfirmed: false,
            breaks: false,
        }
    }

    /// One connection: until the message of the rule is lost, or until the channel is over.
    async fn live(&mut self, rule: Option<InterferenceRule>) -> Result<(), Stop> {
        let (run, end) = self.launcher.launch(rule)?;
        self.breaks = rule.is_some();
        let lived = match OurParties::start(self.launcher, &run, std::mem::take(&mut self.stored)).await {
            Ok(ours) => {
                let lived = match run.ours() {
                    Side::Payer => self.pay(&run, &ours, end).await,
                    Side::Payee => self.receive(&run, &ours, end).await,
                };
                self.stored = ours.stop().await?;
                lived
            }
            Err(failure) => Err(failure.into()),
        };
        let heard = run.heard();
        self.said = heard.said.or(self.said);
        self.closed |= run.case.program == Side::Payee && heard.last_kind() == Some(MessageKind::Closed);
        self.launcher.end(run).await;
        match (rule, lived) {
            (Some(_), Err(Stop::Cut)) => Ok(()),
            (Some(rule), Ok(())) => {
                let kind = rule.message.kind;
                Err(CaseFailure::runner(format!("no {kind} to lose")).into())
            }
            (_, lived) => lived,
        }
    }

    fn agreed(&self) -> Result<&AgreedChannel, CaseFailure> {
        let agreed = self.agreed.as_ref();
        agreed.ok_or_else(|| CaseFailure::runner("the connection broke before there was a channel"))
    }

    fn funding(&self) -> Option<OutPoint> {
        self.agreed.as_ref().map(|agreed| agreed.funding)
    }

    fn reorganise(&mut self) -> Result<(), CaseFailure> {
        let txid = self.agreed()?.funding.txid;
        let world = self.launcher.world;
        world.say("While both sides are apart, the funding transaction is reorganised away");
        world.reorganise_away(txid)?;
        self.unconfirmed = true;
        Ok(())
    }

    fn copy(&self) -> Result<Copied, CaseFailure> {
        if let Some(state) = &self.launcher.state {
            replace_folder(state, &state.with_extension("copy")).map_err(CaseFailure::runner)?;
        }
        Ok(Copied {
            stored: self.stored.clone(),
            said: self.said,
        })
    }

    fn restore(&mut self, side: Side, copy: Copied) -> Result<(), CaseFailure> {
        let world = self.launcher.world;
        world.say(format!("The {side} goes on from an older copy of what it held"));
        if side != self.launcher.case.program {
            self.stored = copy.stored;
            return Ok(());
        }
        self.said = copy.said;
        if let Some(state) = &self.launcher.state {
            replace_folder(&state.with_extension("copy"), state).map_err(CaseFailure::runner)?;
        }
        Ok(())
    }

    /// Checks what the program remembers, as the payer or as the payee.
    fn remembers(&self, run: &Run<'_>) -> Result<(), CaseFailure> {
        let heard = run.heard();
        let (message, sum) = match (heard.resume, heard.resumed) {
            (Some(resume), _) => (MessageKind::Resume, Some(resume.signed)),
            (_, Some(resumed)) => (MessageKind::Resumed, resumed.latest_payment.map(|held| held.paid)),
            (None, None) => return Err(CaseFailure::runner("neither resume nor resumed")),
        };
        let sat = |sum: Option<Amount>| sum.unwrap_or_default().to_sat();
        if sat(sum) != sat(self.said) {
            let expected = format!(
                "{message} with {} sat in total, the last it sent before",
                sat(self.said)
            );
            let seen = format!("{message} with {} sat", sat(sum));
            return Err(CaseFailure::new(STAGE, expected, seen));
        }
        heard
            .resumed
            .map_or(Ok(()), |resumed| self.is_in_state(resumed.state))
    }

    fn is_in_state(&self, state: ResumedState) -> Result<(), CaseFailure> {
        let (expected, fits) = if self.unconfirmed {
            (
                "0: the funding transaction is unconfirmed",
                matches!(state, ResumedState::AwaitsFunding),
            )
        } else if self.closed {
            let settled = matches!(state, ResumedState::Settled(_) | ResumedState::Closed(_));
            ("3 or 4: the settlement is broadcast", settled)
        } else {
            let open = matches!(state, ResumedState::Open | ResumedState::AwaitsSettlement);
            ("1 or 2: payments count, or a settlement is asked for", open)
        };
        if fits {
            return Ok(());
        }
        let (number, _) = state.to_parts();
        let expected = format!("resumed with state {expected}");
        Err(CaseFailure::new(STAGE, expected, format!("state {number}")))
    }

    /// Confirms the funding transaction, for the first time or again.
    async fn confirms(&mut self, run: &Run<'_>, is_new: bool) -> Result<(), Stop> {
        let agreed = self.agreed()?.clone();
        if is_new {
            return run.funded(&agreed).await;
        }
        if std::mem::take(&mut self.unconfirmed) {
            run.mine(agreed.params.confirmations()).await?;
        }
        Ok(())
    }

    /// Waits for the end that the case is about.
    async fn ends(&self, run: &Run<'_>) -> Result<(), Stop> {
        let paid = run.case.payments().last().copied().unwrap_or_default();
        let settlement = run.settled(self.agreed()?, paid).await?;
        if self.breaks {
            // It may be the last message that is lost.
            run.said("closing", "closed", |heard| heard.closed.is_some())
                .await?;
        }
        let named = run.heard().resumed.and_then(|resumed| resumed.state.to_parts().1);
        if run.case.program == Side::Payee && named != Some(settlement) {
            run.told(settlement).await?;
        }
        Ok(run.confirmed().await?)
    }
}

/// Makes a folder a copy of another one.
fn replace_folder(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            replace_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
