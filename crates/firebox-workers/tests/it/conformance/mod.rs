//! One suite of behaviors for every kind of workers.
//!
//! A kind of workers is a [`Subject`]: how they are made, and how they end. `conformance!(Subject, 2)` makes
//! a test of every behavior that two workers have; a program without the test harness gives the lists
//! (`behaviors!` and its like) a macro of its own.
//!
//! Nothing here is a closure over something of the test: tasks are plain data ([`Act`]), work is named by its
//! type, and what a test holds up, opens or counts are files in a folder ([`Stage`]). So the suite is the
//! same for workers that share no memory with it.

pub(crate) mod act;
pub(crate) mod answers;
pub(crate) mod bounds;
pub(crate) mod ends;
pub(crate) mod limits;
pub(crate) mod numbers;
pub(crate) mod order;
pub(crate) mod own;
pub(crate) mod stage;
pub(crate) mod streams;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::workers::Runs;
use firebox_workers::{Statistics, Workers};

pub(crate) use act::{Act, Checked, Double, Play, Played};
pub(crate) use stage::Stage;

/// A kind of workers under test.
pub(crate) trait Subject {
    type Workers: Workers + Runs<Act, Play> + Runs<u64, Double> + Runs<u64, Checked> + Send + 'static;

    /// So many workers, whose tasks have this time limit.
    fn with_limit(workers: usize, limit: Option<Duration>) -> Self::Workers;

    /// Ends the workers once everything that was handed out is done.
    fn join(workers: Self::Workers);

    fn new(workers: usize) -> Self::Workers {
        Self::with_limit(workers, None)
    }
}

/// A kind of workers that has what this crate's own pools have.
pub(crate) trait PoolSubject: Subject {
    /// Ends the workers at once.
    fn terminate(workers: Self::Workers);

    /// Counts of what the workers have done.
    fn statistics(workers: &Self::Workers) -> Statistics;
}

/// Long enough for anything that is not held up by what the test itself holds up.
pub(crate) const AGES: Duration = Duration::from_secs(30);

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < AGES, "what never happens");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a behavior, and fails if it doesn't end: a task that nobody answers must not hold up the tests.
pub(crate) fn in_time(behavior: fn()) {
    let (ended, end) = mpsc::channel();
    let running = thread::spawn(move || {
        behavior();
        let _ = ended.send(());
    });
    // It ended, by itself or with a panic, or it is left to itself.
    let held_up = end.recv_timeout(2 * AGES) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!held_up, "somebody waits for ever");
    if let Err(panic) = running.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Promises of any number of workers.
macro_rules! behaviors {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            order::map_gives_results_in_the_order_of_the_tasks,
            order::imap_gives_results_in_the_order_of_the_tasks,
            order::imap_unordered_gives_each_result_once_under_its_index,
            order::dispatch_gives_each_result_once_under_its_index,
            answers::every_task_is_answered_once_however_it_ends,
            answers::a_panic_names_its_task_and_worker_and_spares_the_others,
            answers::the_first_error_in_order_ends_try_map_and_keeps_its_cause,
            answers::a_failure_among_many_small_tasks_is_named,
            answers::a_submitted_task_is_answered,
            bounds::no_more_tasks_start_than_a_stream_allows,
            bounds::dispatch_takes_as_many_tasks_as_its_bound_and_not_one_more,
            bounds::a_consumer_that_stops_stops_the_workers,
            bounds::tasks_without_an_end_are_no_overflow,
            streams::many_streams_at_once_each_get_their_own_results,
            streams::streams_of_several_threads_each_get_their_own_results,
            streams::more_tasks_than_a_queue_holds_are_no_deadlock,
            streams::a_slow_consumer_holds_up_no_other_stream,
            ends::closed_workers_answer_every_task_as_lost,
            ends::tasks_that_are_out_when_the_workers_close_are_answered_once,
            ends::a_stream_dropped_at_any_point_leaves_the_workers_whole,
            ends::a_submitted_task_runs_although_its_handle_is_dropped,
        }
    };
}

/// Promises that hold where there are no workers.
macro_rules! behaviors_without_workers {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            numbers::tasks_run_in_the_caller_and_only_when_their_result_is_asked_for,
            numbers::no_workers_stay_none,
            numbers::a_task_that_ran_in_the_caller_is_not_cancelled,
        }
    };
}

/// Promises that hold where there is a worker.
macro_rules! behaviors_with_workers {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            numbers::as_many_tasks_run_at_the_same_time_as_there_are_workers,
            numbers::workers_that_are_added_take_tasks_and_none_is_taken_away,
            numbers::a_worker_that_is_added_takes_what_waits,
            answers::a_handle_can_be_waited_for_with_a_limit,
            answers::a_cancelled_task_never_begins_and_is_answered_at_once,
            answers::a_task_that_is_cancelled_while_it_runs_is_answered_at_once_and_hears_of_it,
            bounds::a_full_queue_gives_tasks_back_and_loses_none,
            streams::a_full_queue_holds_up_nobody_who_only_looks,
            ends::joining_finishes_what_was_handed_out,
            ends::dropping_answers_what_waits_as_lost,
            ends::a_dropped_stream_starts_nothing_more,
            ends::a_task_of_a_dropped_stream_hears_that_nobody_waits,
            limits::a_task_past_its_limit_is_given_up_and_the_others_go_on,
            limits::a_task_past_its_limit_is_given_up_for_who_only_looks,
            limits::a_task_that_ends_after_it_was_given_up_is_not_answered_again,
            limits::a_long_task_that_tells_of_its_progress_is_not_given_up,
            limits::a_task_that_hangs_holds_up_no_other_stream,
            limits::every_place_has_a_worker_after_tasks_were_given_up,
            limits::an_end_waits_for_no_task_longer_than_its_limit,
        }
    };
}

/// Promises of a pool of this crate that has a worker.
macro_rules! behaviors_of_pools {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            answers::a_task_that_was_answered_is_not_cancelled,
            answers::statistics_count_what_was_answered,
            ends::terminating_answers_all_that_is_out_as_lost_at_once,
            limits::statistics_count_the_workers_that_were_given_up,
        }
    };
}

/// Promises that hold where there are several workers.
macro_rules! behaviors_with_several_workers {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            order::a_first_task_that_ends_last_still_comes_first,
            order::unordered_results_come_as_they_are_ready,
        }
    };
}

/// Promises where a task can reach the workers that run it, which those in other processes cannot.
macro_rules! behaviors_in_one_process {
    ($then:ident, $($with:tt)*) => {
        $crate::conformance::$then! { $($with)*;
            own::a_worker_that_uses_its_own_workers_runs_the_tasks_itself,
        }
    };
}

/// A test of each behavior for so many workers of a kind.
macro_rules! conformance {
    ($subject:ty, 0) => {
        $crate::conformance::behaviors!(conformance_tests, $subject, 0);
        $crate::conformance::behaviors_without_workers!(conformance_tests, $subject, 0);
    };
    ($subject:ty, 1) => {
        $crate::conformance::behaviors!(conformance_tests, $subject, 1);
        $crate::conformance::behaviors_with_workers!(conformance_tests, $subject, 1);
    };
    ($subject:ty, $workers:literal) => {
        $crate::conformance::behaviors!(conformance_tests, $subject, $workers);
        $crate::conformance::behaviors_with_workers!(conformance_tests, $subject, $workers);
        $crate::conformance::behaviors_with_several_workers!(conformance_tests, $subject, $workers);
    };
}

macro_rules! conformance_tests {
    ($subject:ty, $workers:literal; $($topic:ident::$behavior:ident,)*) => {$(
        #[test]
        fn $behavior() {
            crate::conformance::in_time(|| crate::conformance::$topic::$behavior::<$subject>($workers));
        }
    )*};
}

pub(crate) use {
    behaviors, behaviors_in_one_process, behaviors_of_pools, behaviors_with_several_workers,
    behaviors_with_workers, behaviors_without_workers, conformance, conformance_tests,
};
