//! What was found of the four systems by running them, row by row, and the test that shows what is here instead.
//!
//! Not here: Redis and other brokers, which come later; string plugins, gRPC, routers and commands of
//! a cluster, which do not. Where another module of the suite shows a row, the table names its test.

mod others;
mod qtasks;

use std::collections::BTreeSet;
use std::path::Path;

use crate::life::Gate;

/// A row in words, and its test: a path within this suite; `ui::` is a mistake that the compiler explains, `stores::` a
/// case that each store passes.
const ROWS: &[(&str, &str)] = &[
    // QTasks, as it is written.
    ("example: test_yield with yield_func, 5", "seeds::qtasks_pages::test_yield"),
    ("example: test_yield with echo, 5", "seeds::qtasks_pages::test_yield_with_echo"),
    ("example: sync_gen with sync_handler, 5", "seeds::qtasks_pages::sync_gen"),
    ("example: ids with save_to_db", "seeds::qtasks_pages::ids"),
    ("example: send_notifications with log_notification", "seeds::qtasks_pages::send_notifications"),
    // QTasks, the parts.
    ("task: bare, and with every option", "forms::arguments::arguments_of_the_attribute_are_registered"),
    ("task: the defaults", "forms::arguments::what_is_not_said_is_the_default"),
    ("task: a name twice", "life::a_set_that_a_worker_can_not_serve_is_refused_when_it_starts"),
    ("task: a function twice", "ui::duplicate_fn"),
    ("task: it can still be called", "forms::parameters::a_direct_call_brings_its_own"),
    ("kind: sync, async, generating or not", "forms::every_form_is_registered_as_what_it_is"),
    ("generate_handler: sync, async, fallible", "forms::handlers::each_value_goes_through_the_handler"),
    ("generate_handler: before the next value", "seeds::rows::qtasks::a_value_is_handled_before_the_next_is_made"),
    ("generate_handler: on a task that does not yield", "ui::handler_without_yield"),
    ("generate_handler: of another type", "ui::handler_wrong_arg"),
    ("result: of an empty generator", "seeds::rows::qtasks::an_empty_generator_gives_an_empty_list"),
    ("result: what a generator returns", "forms::a_generator_may_return_a_value_at_the_end"),
    ("result: folded, so that it need not be kept", "executors::an_executor_folds_what_a_task_yields"),
    ("visibility while it runs", "seeds::simple_queue::output_after_each_yield"),
    ("add_task: with a timeout that passes", "life::waiting_ends_and_the_task_goes_on"),
    ("add_task: with a timeout of 0", "seeds::rows::qtasks::a_wait_of_no_time_ends_with_the_handle"),
    ("add_task: of a program without a loop", "life::callers_without_a_runtime_wait_on_a_channel"),
    (
        "add_task: arguments that are no JSON",
        "seeds::rows::qtasks::arguments_that_can_not_be_written_are_an_error_where_they_are_added",
    ),
    (
        "add_task: parameters named priority, timeout, task_name",
        "seeds::rows::qtasks::arguments_may_bear_the_names_of_options",
    ),
    ("add_task: by name, and of an unknown name", "life::by_name_with_json"),
    ("add_task: wrong arguments, typed", "ui::wrong_call"),
    ("Task: its fields", "seeds::rows::qtasks::a_record_tells_all_of_its_task"),
    ("Task: its statuses", "seeds::rows::qtasks::every_status_has_one_word"),
    ("Task: every option of add_task", "life::every_option_is_stored"),
    ("TaskExecSchema: read, and changed for one app", "executors::two_apps_have_different_specs_of_one_function"),
    ("priority: of what waits", "seeds::rows::qtasks::priority_orders_what_waits"),
    ("priority: behind one that runs, nothing popped early", "life::the_most_urgent_task_is_the_next_with_one_slot"),
    ("priority: of a function", "life::a_function_s_own_settings_are_its_tasks"),
    ("echo: without the parameter", "ui::echo_without_context"),
    ("ctx: given by type", "forms::parameters::the_worker_supplies_what_does_not_travel"),
    ("ctx: adding tasks", "life::a_body_adds_to_the_app_that_polls_it"),
    ("ctx: cancel", "seeds::rows::qtasks::cancel_inside_keeps_the_items"),
    ("executor: of a task, of a worker", "executors::that_of_a_task_counts_where_the_app_has_one_too"),
    ("middleware: order, and as often as the task runs", "executors::middlewares_are_around_each_other_in_order"),
    ("middleware: what it answers counts", "executors::a_middleware_has_the_last_word"),
    ("max_time: of an async body", "attempts::panics_and_time_limits_are_retried_too"),
    ("max_time: of a sync generator", "seeds::rows::qtasks::a_sync_generator_stops_at_its_limit_of_300_ms"),
    ("max_time: of a sync body", "life::a_plain_sync_task_ends_at_its_time_limit_whatever_its_thread_does"),
    ("max_time: between values", "isolation::a_body_that_takes_too_long_for_a_value_ends"),
    ("retry: 2 is three runs of one task", "retries::every_attempt_tells_how_it_failed"),
    ("retry: waits between runs", "attempts::retries_wait_and_end"),
    ("retry: what the runs before yielded", "attempts::a_verified_yield_is_not_handled_nor_stored_again"),
    ("retry_on_exc", "retries::a_predicate_on_the_error_of_the_task_decides"),
    ("decode: values are stored as they are written", "forms::values_are_stored_as_they_are_written"),
    ("pydantic: types in the signature", "forms::parameters::wrong_arguments_are_named"),
    (
        "Depends: closed on every way out",
        "seeds::rows::qtasks::what_a_body_holds_is_dropped_on_every_way_out_and_of_no_other_task",
    ),
    ("State: of an app", "seeds::rows::qtasks::a_state_is_shared_by_the_tasks_of_an_app_and_by_no_other"),
    ("State: of a task, over its attempts", "attempts::a_body_that_resumes_goes_on_where_the_log_ends"),
    ("events: running, success, error", "signals::the_eight_signals_come_in_order"),
    ("events: cancel", "signals::a_cancel_is_told_with_its_reason"),
    ("storage: finished tasks go, others do not", "stores::what_has_ended_or_never_began_can_be_removed"),
    ("storage: keys expire", "stores::pruning_takes_the_log_then_the_row"),
    ("workers: free slots and no more", "limits::no_more_run_at_once_than_the_queue_allows"),
    ("restart: after kill -9", "crash::nothing_is_lost_doubled_or_reordered_whatever_is_killed"),
    ("restart: while nobody runs", "sqlite::what_was_stored_is_there_when_it_is_opened_again"),
    ("chain: values are passed on, a failure stops it", "iters::a_chain_passes_on_what_each_returns"),
    ("chain: a value at a time", "iters::a_pipe_feeds_each_value_to_another_task"),
    ("timer: by the attribute", "schedules::the_seeds_notifications_go_out_every_second"),
    ("timer: kept", "schedules::a_schedule_goes_on_when_its_file_is_opened_again"),
    ("test case: without a broker", "test_kit::a_run_in_place_tells_all_that_its_body_did"),
    ("test case: worker and broker in one", "test_kit::the_clock_of_a_test_app_stands_still"),
    ("test case: parts that fail", "test_kit::a_script_says_which_calls_go_wrong"),
    // QTasks, at the edges.
    ("edge: the generator raises", "life::what_was_yielded_is_kept_on_every_way_out"),
    ("edge: the handler raises, StopIteration too", "forms::handlers::the_error_of_a_handler_names_its_value"),
    ("edge: a sync app, an async generator", "seeds::rows::qtasks::a_program_without_a_runtime_runs_every_kind"),
    ("edge: a colon in a name", "seeds::rows::qtasks::a_name_with_a_colon_stops_nothing"),
    ("edge: a sync body and the other tasks", "life::sync_tasks_can_not_stall_async_ones"),
    ("edge: a name that no worker has", "stores::only_what_is_offered_is_claimed"),
    (
        "edge: what cancel leaves of a sync generator",
        "life::a_sync_generator_is_dropped_at_its_next_yield_and_its_task_ends_at_once",
    ),
    // Simple Queue.
    ("example: process_items", "seeds::simple_queue::process_items"),
    ("example: import_csv", "seeds::simple_queue::import_csv"),
    ("example: process_large_dataset", "seeds::simple_queue::process_large_dataset"),
    ("example: run_pipeline", "seeds::simple_queue::run_pipeline"),
    ("example: download_large_file", "seeds::simple_queue::download_large_file"),
    ("example: download_large_file, the page's body", "seeds::simple_queue::download_large_file_with_an_http_client"),
    ("example: safe_generator_task", "seeds::simple_queue::safe_generator_task"),
    ("example: my_task", "seeds::simple_queue::my_task"),
    ("example: a, b, c", "seeds::simple_queue::abc"),
    ("batch_size: a default", "seeds::simple_queue::import_csv_without_a_batch_size"),
    ("output: grows by each string", "output::the_output_is_what_was_yielded_put_together"),
    ("output: in time that does not grow", "output::a_text_grows_by_what_comes_however_long_it_is"),
    ("output: of an int", "output::what_is_no_text_is_refused"),
    ("output: another attempt", "output::what_is_taken_back_is_cut_off"),
    (
        "signals: before a value goes on, after it is stored",
        "signals::a_value_is_told_when_it_is_stored_and_before_the_body_goes_on",
    ),
    ("signals: a receiver raises", "signals::a_receiver_that_panics_changes_nothing"),
    ("signals: on_success raises", "seeds::rows::others::a_task_that_completed_stays_completed"),
    ("signals: at a task, anywhere", "signals::receivers_stand_at_the_task_anywhere_in_the_program_and_at_the_app"),
    (
        "isolation: a crash, an exit, a non-zero status",
        "isolation::whatever_ends_the_process_ends_one_attempt_and_nothing_else",
    ),
    ("isolation: SIGTERM, 5 s, SIGKILL", "isolation::a_child_that_is_asked_to_end_has_a_grace"),
    ("isolation: an endless loop", "isolation::an_endless_loop_ends_at_its_time_limit_and_by_a_cancel"),
    ("log: what a body says", "task_log::what_a_body_says_is_in_its_log"),
    ("orphans: on whatever host", "stores::a_lost_lease_comes_back_with_a_higher_epoch"),
    ("orphans: on_failure is told why", "signals::the_end_of_what_nobody_runs_is_told_too"),
    ("worker: no sleep between tasks", "seeds::rows::others::a_worker_that_waits_is_told_of_a_task"),
    ("worker: one task, one worker", "stores::many_claimers_share_without_overlap"),
    ("worker: hears of another process", "sqlite::hints_reach_other_processes"),
    ("settings: the size of arguments", "life::arguments_over_the_limit_are_refused"),
    ("cancel: of a running task", "life::cancelling_a_running_task_drops_its_body"),
    ("cancel: is not overwritten", "stores::a_cancel_and_a_claim_agree"),
    ("cancel: from another process", "crash::promises::a_cancel_reaches_the_worker_in_another_process"),
    // Streaming Coordinator.
    ("example: ExampleTask", "seeds::stream_tasks::example_task"),
    ("example: MyCustomTask", "seeds::stream_tasks::my_custom_task"),
    ("example: AsyncGeneratorTask", "seeds::stream_tasks::async_generator_task"),
    ("example: SyncGeneratorTask", "seeds::stream_tasks::sync_generator_task"),
    ("example: HttpxFetchTask", "seeds::stream_tasks::httpx_fetch_task"),
    ("example: HttpxFetchTask, raise_for_status", "seeds::stream_tasks::httpx_fetch_task_of_a_server_that_is_broken"),
    ("example: ExampleTask as a function", "seeds::coordinator::example_task"),
    (
        "final_value: what is returned",
        "stream_tasks::fields_are_arguments_and_the_final_value_comes_back_byte_for_byte",
    ),
    ("process_generator: the last item", "stream_tasks::generators_are_stored_item_by_item_and_give_the_last"),
    ("send_event: is kept", "attempts::custom_events_are_repeated_without_being_stored_again"),
    ("send_event: names", "stream_tasks::an_event_of_a_name_that_means_something_else_fails_the_task"),
    ("send_event: what can't be written", "life::an_event_that_can_not_be_stored_fails_the_task"),
    (
        "start_task: twice, and from two processes",
        "isolation::what_runs_in_another_process_is_running_and_is_started_once",
    ),
    ("start_task: by reading", "seeds::rows::others::who_reads_a_task_does_not_start_it"),
    ("start_task: in a loop that ends", "seeds::rows::others::whoever_adds_a_task_may_leave"),
    ("clients: late", "seeds::rows::others::a_late_client_gets_all"),
    ("clients: many", "watchers::a_thousand_watchers_see_everything"),
    ("clients: that leave", "watchers::dropping_watchers_and_handles_changes_nothing"),
    ("clients: that stop reading", "watchers::a_watcher_that_falls_behind_reads_from_the_store"),
    ("clients: that nobody misses", "stream_tasks::a_task_may_be_cancelled_when_nobody_watches"),
    ("restart: the stream goes on", "stream_tasks::a_stream_task_goes_on_after_a_crash"),
    ("end: always told", "seeds::rows::others::a_stream_ends_whatever_its_task_tells"),
    ("end: also without any hint", "watchers::without_any_hint_every_watcher_still_ends"),
    ("retention", "watchers::retention_ends_the_streams_of_those_who_watch"),
    // django-q.
    ("example: math.floor", "iters::floor_over_a_hundred_numbers"),
    ("example: math.copysign", "iters::copysign_of_three_pairs"),
    ("async_iter: of a generator", "iters::many_arguments_are_read_as_they_are_needed"),
    ("async_iter: what is no argument", "iters::what_can_t_be_an_argument_is_told_by_its_place"),
    ("async_iter: options", "iters::a_key_makes_it_one_whole"),
    ("async_iter: of tasks that yield", "iters::generators_give_lists_that_can_be_flattened"),
    ("order", "iters::results_come_in_the_order_of_the_arguments_or_as_they_finish"),
    ("failure of an item", "iters::one_that_fails_leaves_the_others_alone"),
    ("cached", "seeds::rows::others::a_list_is_kept_as_long_as_it_is_told"),
    ("sync", "iters::in_place_there_is_no_queue"),
    ("wait: for None", "seeds::rows::others::results_of_nothing_can_be_waited_for"),
    ("empty iterable", "iters::an_empty_one_completes_with_nothing"),
    ("cache: of another process", "iters::a_whole_can_be_attached_to"),
    ("groups", "iters::a_group_is_counted_cancelled_and_deleted"),
    ("hook", "iters::a_whole_tells_when_it_is_done"),
    ("workers lost while a list is made", "iters::workers_may_die_while_results_are_gathered"),
    ("retry: a task longer than it", "seeds::rows::others::a_task_that_outlives_its_lease_runs_once"),
    ("max_attempts: when workers die", "stores::too_many_crashes_fail_the_task"),
    ("schedule: repeats", "schedules::a_schedule_runs_at_each_instant_until_it_has_repeated_itself"),
    ("schedule: once", "schedules::a_single_run_comes_once_and_at_once_if_it_is_late"),
    ("schedule: several workers", "schedules::three_workers_on_one_file_run_each_instant_once"),
    // Over HTTP, and from the command line.
    ("http: a task is polled, as JSON and as a page", "http::seeds::a_task_is_polled_as_on_the_page"),
    (
        "http: the stream of a running task, JSON once it has ended",
        "http::seeds::a_running_task_is_streamed_by_the_names_of_the_page",
    ),
    ("http: a task that sends no events of its own", "http::seeds::what_a_body_does_not_say_is_said_for_it"),
    (
        "http: a task that fails while it is watched",
        "http::seeds::a_task_that_fails_while_it_is_watched_ends_with_an_error",
    ),
    ("http: a late client", "http::events::many_watch_one_task_from_any_moment"),
    ("http: a client that leaves and comes back", "http::events::a_reader_goes_on_where_it_was"),
    ("http: a client that stops reading", "http::events::a_slow_reader_is_served_from_the_store"),
    ("http: the server starts again", "http::client::a_stream_survives_its_server"),
    ("http: a get runs and changes nothing", "http::tasks::getting_changes_nothing"),
    ("http: the one client of a process", "http::client::a_process_has_one_client_for_a_server"),
    ("http: health, while a sync generator computes", "http::wire::a_busy_task_keeps_nobody_waiting"),
    ("http: nobody gets in by default", "http::access::nobody_gets_in_unless_it_is_said"),
    ("http: unix socket", "http::wire::a_socket_is_the_users_own"),
    ("command line: runserver_stream", "cli::a_server_listens_and_prints_where"),
    ("command line: a worker in another process", "cli::a_task_runs_in_another_process_and_its_values_are_lines"),
    ("command line: enqueue again", "http::tasks::a_task_is_cancelled_and_done_again"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Whether there is a test of this path.
fn exists(test: &str) -> bool {
    let read = |path: String| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let (module, name) = test.rsplit_once("::").expect("a module and a name");
    match module {
        "ui" => root().join(format!("tests/ui/{name}.rs")).exists(),
        "stores" => read("qtasks/src/store/conformance.rs".to_owned()).contains(&format!("            {name},\n")),
        _ => {
            let source = read(format!("tests/suite/{}.rs", module.replace("::", "/")));
            let lines: Vec<&str> = source.lines().collect();
            let begins = |line: &&str| line.strip_prefix("async ").unwrap_or(line) == format!("fn {name}() {{");
            let Some(at) = lines.iter().position(begins) else { return false };
            lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
        }
    }
}

#[test]
fn every_row_has_a_test() {
    let missing: Vec<_> = ROWS.iter().filter(|(_, test)| !exists(test)).collect();
    assert!(missing.is_empty(), "no such test: {missing:#?}");
    let words: BTreeSet<&str> = ROWS.iter().map(|(words, _)| *words).collect();
    let tests: BTreeSet<&str> = ROWS.iter().map(|(_, test)| *test).collect();
    assert_eq!((words.len(), tests.len()), (ROWS.len(), ROWS.len()), "a row, or a test, stands twice");
}

/// The table of threats names the test of each defence.
#[test]
fn every_threat_has_a_test() {
    let source = std::fs::read_to_string(root().join("qtasks/src/http.rs")).unwrap();
    let table = source.split_once("//! # Safety\n").unwrap().1.split_once("\nuse ").unwrap().0;
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("//! | ")).skip(2).collect();
    assert!(rows.len() > 9, "{rows:?}");
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        for test in tests.split(", ") {
            let test = test.trim_matches('`');
            let path = if test.starts_with("cli::") { test.to_owned() } else { format!("http::{test}") };
            assert!(exists(&path), "no such test, in {row}");
        }
    }
}

/// And the other way round: what these modules test is a row.
#[test]
fn every_test_of_the_rows_is_in_the_table() {
    let listed: BTreeSet<&str> = ROWS.iter().map(|(_, test)| *test).collect();
    for module in ["qtasks", "others"] {
        let source = std::fs::read_to_string(root().join(format!("tests/suite/seeds/rows/{module}.rs"))).unwrap();
        let names = source.lines().filter_map(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split_once("() {").map(|(name, _)| name.to_owned())
        });
        for name in names {
            let path = format!("seeds::rows::{module}::{name}");
            assert!(!exists(&path) || listed.contains(&*path), "{path} is in no row");
        }
    }
    assert!(!exists("seeds::rows::qtasks::no_such_test") && !exists("life::soon") && !exists("life::gated"));
}
