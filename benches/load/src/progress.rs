//! The progress line on standard error.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{load::Load, report::millis};

/// Writes a line each second, in place of the previous one. Writes nothing if standard error is no terminal. Never
/// returns.
pub(crate) async fn show(load: Arc<Load>, rate: f64) {
    let mut stderr = io::stderr();
    if !stderr.is_terminal() {
        std::future::pending::<()>().await;
    }
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        seconds.tick().await;
        let _ = write!(stderr, "\r\x1b[2K{}", line(&load, rate));
        let _ = stderr.flush();
    }
}

/// Removes the line.
pub(crate) fn clear() {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[2K");
    }
}

fn line(load: &Load, rate: f64) -> String {
    let (elapsed, schedule) = (load.elapsed(), load.schedule());
    let total = schedule.end().as_secs_f64();
    let time = format!("{:.0} of {total:.0} s", elapsed.as_secs_f64());
    let measured = elapsed.saturating_sub(schedule.begin()).as_secs_f64();
    if measured == 0.0 {
        return format!("{time}: warm-up, {} in flight", load.in_flight());
    }
    let recorder = load.recorder();
    let [p50, p99] = [0.5, 0.99].map(|it| match recorder.from_due.is_empty() {
        true => "-".to_owned(),
        false => millis(recorder.from_due.value_at_quantile(it)),
    });
    format!(
        "{time}: {:.0} of {rate}/s, {} in flight, {} late, {} refused, {} errors, p50 {p50}, p99 {p99}",
        recorder.answered as f64 / measured,
        load.in_flight(),
        recorder.late.len() + recorder.not_sent,
        recorder.refused,
        recorder.error_count(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::{Answer, Outcome},
        recorder::Times,
        schedule::Schedule,
    };

    #[tokio::test(start_paused = true)]
    async fn the_line_shows_rate_and_percentiles_after_the_warm_up() {
        let seconds = Duration::from_secs;
        let load = Load::new(Schedule::new(10.0, seconds(1), seconds(4)), seconds(1), false);
        assert_eq!(line(&load, 10.0), "0 of 5 s: warm-up, 0 in flight");
        tokio::time::advance(seconds(3)).await;
        assert_eq!(
            line(&load, 10.0),
            "3 of 5 s: 0 of 10/s, 0 in flight, 0 late, 0 refused, 0 errors, p50 -, p99 -"
        );
        for _ in 0..16 {
            let [due, done] = [Duration::ZERO, Duration::from_millis(5)];
            let times = Times { due, sent: due, done, waited_for_place: false };
            let answer = Answer { status: 200, length: 0, refusal: None };
            load.recorder().record(times, &Outcome::Answered(answer));
        }
        assert_eq!(
            line(&load, 10.0),
            "3 of 5 s: 8 of 10/s, 0 in flight, 0 late, 0 refused, 0 errors, p50 5.00 ms, p99 5.00 ms"
        );
    }
}
