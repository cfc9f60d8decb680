//! How old the oldest message may be, and what that says of the queue's retention.

use super::*;

#[test]
fn the_oldest_message_moves_forward_with_reports_and_stands_still_without() {
    let mut scene = Scene::flowing();
    assert_eq!(scene.oldest(), Some(minute(1)));
    let report = |oldest| {
        let queue = QueueState { oldest_seen: Some(minute(oldest)), ..well().queue };
        vec![answer(WorkerState { queue, ..well() }), answer(well())]
    };
    scene.answers = report(5);
    scene.answers[1] = scene.answers[0].clone();
    scene.at(6);
    assert_eq!(scene.oldest(), Some(minute(5)));
    scene.answers = vec![unreachable(), unreachable()];
    scene.at(30);
    assert_eq!(scene.oldest(), Some(minute(5)), "nobody reported");
    scene.answers = report(20);
    scene.answers[1] = unreachable();
    scene.at(31);
    assert_eq!(scene.oldest(), Some(minute(5)), "one of two reported");
}

#[test]
fn while_nothing_is_received_the_oldest_message_is_not_newer_than_the_stop() {
    let mut scene = Scene::flowing();
    let empty = QueueState { visible: Some(0), in_flight: Some(0), ..well().queue };
    scene.answers = vec![answer(WorkerState { queue: empty, ..well() }); 2];
    scene.at(10);
    assert_eq!(scene.oldest(), None, "an empty queue has no oldest message");
    scene.answers = vec![answer(in_outage(20)); 2];
    for state in &mut scene.answers {
        state.state.as_mut().unwrap().queue.oldest_seen = None;
    }
    scene.at(21);
    assert_eq!(scene.oldest(), Some(minute(20)));
    scene.pipeline.spec.suspend = true;
    scene.answers.clear();
    scene.at(60);
    scene.at(90);
    assert_eq!(scene.oldest(), Some(minute(20)));
}

#[test]
fn within_retention_turns_false_at_half_and_at_four_fifths_with_no_worker_up() {
    let mut scene = Scene::flowing();
    scene.pipeline.spec.suspend = true;
    scene.answers.clear();
    scene.at(2);
    // The queue keeps a message for four days; the oldest was sent in minute 1.
    let hours = |hours: i64| 1 + hours * 60;
    scene.at(hours(47));
    assert_eq!(scene.says(types::WITHIN_RETENTION), says("True", reasons::OK));
    assert!(scene.look(hours(48), false));
    assert_eq!(scene.says(types::WITHIN_RETENTION), says("False", reasons::HALF_OF_RETENTION_PASSED));
    assert!(scene.look(hours(77), false));
    assert_eq!(scene.says(types::WITHIN_RETENTION), says("False", reasons::RETENTION_NEARLY_OVER));
}
