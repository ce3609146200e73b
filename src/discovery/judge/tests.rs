//! The judge, proved whole: each kind of answer by hand, and every short course of answers by machine.

use std::sync::Arc;

use super::*;
use crate::config::Health;
use crate::pool::{Check, EndpointHealth, Pace};

fn at(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 80))
}

fn found(names: &[usize]) -> Vec<Found> {
    names.iter().map(|n| Found { address: at(*n), name: None }).collect()
}

/// A pool of `members`, of which those in `down` fail their checks.
fn pool(members: &[SocketAddr], down: &[usize]) -> Facts {
    let one = |address: &SocketAddr| {
        let failed = down.iter().any(|n| at(*n) == *address);
        let answer = if failed { Err("refused".to_owned()) } else { Ok("200".to_owned()) };
        let check = Check { at: Timestamp::UNIX_EPOCH, answer, counts: true };
        EndpointHealth::unknown(*address).checked(check, &Health::default(), Pace::Regular)
    };
    Facts { health: Arc::new(members.iter().map(one).collect()), ..Facts::default() }
}

const TERMS: Terms = Terms { min_share: Share(5_000), accept: false, now: Timestamp::UNIX_EPOCH };

/// One color's course: what is known, and who is down.
#[derive(Clone, Default)]
struct Course {
    known: Known,
    down: Vec<usize>,
}

impl Course {
    fn of(names: &[usize]) -> Course {
        let mut course = Course::default();
        assert_eq!(course.hear(names), Belief::Believed);
        course
    }

    /// An answer that is in force at once.
    fn hear(&mut self, names: &[usize]) -> Belief {
        self.hear_under(names, TERMS)
    }

    fn hear_under(&mut self, names: &[usize], terms: Terms) -> Belief {
        let facts = pool(&self.known.addresses(), &self.down);
        let (known, belief, refused) = self.known.hear(&found(names), &facts, terms);
        assert!(refused.is_empty());
        self.known = known;
        belief
    }

    fn settle(&mut self) {
        let facts = pool(&self.known.addresses(), &self.down);
        self.known.settle(&facts);
    }

    fn says(&self) -> String {
        let one = |member: &Member| {
            let SocketAddr::V4(address) = member.address else { panic!("{member:?}") };
            format!("{}{}", address.ip().octets()[3], &member.standing.as_str()[..1])
        };
        self.known.members.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn an_empty_answer_changes_nothing_however_often_it_comes() {
    let mut course = Course::of(&[1, 2]);
    course.down = vec![1, 2];
    for _ in 0..10 {
        assert_eq!(course.hear(&[]), Belief::Empty);
        course.settle();
        assert_eq!(course.says(), "1n 2n");
    }
    assert_eq!(Course::default().hear(&[]), Belief::Empty, "nor the first");
}

#[test]
fn who_is_left_out_lingers_until_he_fails() {
    let mut course = Course::of(&[1, 2, 3]);
    assert_eq!(course.hear(&[1, 2]), Belief::Believed);
    assert_eq!(course.says(), "1n 2n 3l");
    course.settle();
    course.hear(&[1, 2]);
    assert_eq!(course.says(), "1n 2n 3l", "again and again");
    // He comes back as if he had never gone.
    course.hear(&[1, 2, 3]);
    assert_eq!(course.says(), "1n 2n 3n");
    course.hear(&[1, 2]);
    course.down = vec![3];
    course.settle();
    assert_eq!(course.says(), "1n 2n");
    // Whoever fails already when he is left out goes at once; whoever fails and is named stays.
    course.down = vec![1, 2];
    course.hear(&[2, 4]);
    assert_eq!(course.says(), "2n 4n");
}

#[test]
fn a_shrunk_answer_only_adds_until_health_checks_bear_witness() {
    let mut course = Course::of(&[1, 2, 3, 4, 5]);
    let shrunk = |times| Belief::Shrunk { named: 2, of: 5, needed: 3, times };
    assert_eq!(course.hear(&[1, 6]), shrunk(1));
    assert_eq!(course.says(), "1n 2d 3d 4d 5d 6n");
    course.down = vec![2, 3, 4];
    for times in 2..6 {
        assert_eq!(course.hear(&[1, 6]), shrunk(times), "5 still passes");
        course.settle();
        assert_eq!(course.says(), "1n 2d 3d 4d 5d 6n");
    }
    course.down = vec![2, 3, 4, 5];
    assert_eq!(course.hear(&[1, 6]), Belief::Believed);
    assert_eq!((course.says(), course.known.named), ("1n 6n".to_owned(), 2));
}

#[test]
fn witnesses_count_only_for_the_same_answer_three_times_in_a_row() {
    let mut course = Course::of(&[1, 2, 3, 4]);
    course.down = vec![2, 3, 4];
    let times = |belief| match belief {
        Belief::Shrunk { times, .. } => times,
        other => panic!("{other:?}"),
    };
    assert_eq!(times(course.hear(&[1])), 1);
    assert_eq!(times(course.hear(&[1])), 2);
    assert_eq!(course.hear(&[]), Belief::Empty);
    assert_eq!(times(course.hear(&[1])), 1, "an empty one lay between");
    assert_eq!(times(course.hear(&[1])), 2);
    assert_eq!(times(course.hear(&[2])), 1, "another one");
    assert_eq!(times(course.hear(&[1])), 1);
    assert_eq!(times(course.hear(&[1])), 2);
    assert_eq!(course.hear(&[1]), Belief::Believed);
}

#[test]
fn a_good_answer_ends_the_doubt_and_whoever_passes_lingers() {
    let mut course = Course::of(&[1, 2, 3, 4]);
    course.hear(&[1]);
    assert_eq!(course.says(), "1n 2d 3d 4d");
    course.hear(&[1, 2]);
    assert_eq!(course.says(), "1n 2n 3l 4l");
    // What the next one is compared with is what was believed, not who lingers.
    assert_eq!(course.hear(&[1]), Belief::Believed);
    assert_eq!(course.says(), "1n 2l 3l 4l");
}

#[test]
fn an_operator_is_believed() {
    let mut course = Course::of(&[1, 2, 3, 4]);
    course.hear(&[1, 2, 3]);
    let accept = Terms { accept: true, ..TERMS };
    assert_eq!(course.hear_under(&[1], accept), Belief::Believed);
    assert_eq!((course.says(), course.known.named), ("1n".to_owned(), 1), "nobody lingers");
    assert_eq!(course.hear_under(&[], accept), Belief::Believed);
    assert_eq!(course.says(), "");
}

#[test]
fn what_was_there_before_the_source_goes_with_its_first_answer() {
    let inherited = |n| Member { address: at(n), name: None, standing: Standing::Inherited, since: None };
    let mut course = Course { known: Known::begin(0, (1..=4).map(inherited).collect()), down: Vec::new() };
    assert_eq!(course.hear(&[]), Belief::Empty);
    course.settle();
    assert_eq!(course.says(), "1i 2i 3i 4i");
    assert_eq!(course.hear(&[4]), Belief::Believed);
    assert_eq!(course.says(), "4n");
}

#[test]
fn no_color_has_more_endpoints_than_it_may() {
    let many: Vec<Found> = (0..MOST + 7)
        .map(|n| Found { address: SocketAddr::from(([10, 1, (n / 250) as u8, (n % 250) as u8], 80)), name: None })
        .collect();
    let (known, belief, refused) = Known::default().hear(&many, &Facts::default(), TERMS);
    assert_eq!((belief, known.members.len(), refused.len()), (Belief::Believed, MOST, 7));
    // Who is there already is not pushed out by who would join.
    let facts = pool(&known.addresses(), &[]);
    let (other, _, refused) = known.hear(&many[7..], &facts, TERMS);
    assert_eq!((other.addresses(), refused.len()), (known.addresses(), 7));
}

/// Every course of three answers over four endpoints, each answer with any of them failing.
#[test]
fn in_every_course_of_answers_nobody_goes_who_should_stay() {
    let sets: Vec<Vec<usize>> = (0..16).map(|bits| (1..=4).filter(|n| bits >> (n - 1) & 1 == 1).collect()).collect();
    let mut courses = vec![Course::default()];
    for _ in 0..3 {
        let mut next = Vec::new();
        let cases = |course: &Course| {
            let both = sets.iter().flat_map(|answer| sets.iter().map(move |down| (answer, down)));
            both.map(|(answer, down)| (course.clone(), answer, down)).collect::<Vec<_>>()
        };
        for (before, answer, down) in courses.iter().flat_map(cases) {
            let mut course = Course { down: down.clone(), ..before.clone() };
            let belief = course.hear(answer);
            let after = course.known.addresses();
            assert!(after.is_sorted_by(|a, b| a < b), "in order, and each once");
            assert!(belief == Belief::Empty || answer.iter().all(|n| after.contains(&at(*n))), "who is named is there");
            for member in &before.known.members {
                let passes = !down.iter().any(|n| at(*n) == member.address);
                let stays = after.contains(&member.address);
                assert!(stays || belief == Belief::Believed && !passes, "{}: {answer:?}, down {down:?}", before.says());
            }
            // Then nobody goes before he fails, and an equal answer touches nobody.
            if belief == Belief::Believed {
                let said = course.says();
                course.settle();
                assert_eq!(course.says(), said);
                assert_eq!((course.hear(answer), course.says()), (Belief::Believed, said));
            }
            next.push(course);
        }
        next.sort_by_key(|course| (course.says(), course.known.named, format!("{:?}", course.known.doubted)));
        next.dedup_by(|a, b| a.known == b.known);
        courses = next;
    }
    assert!(courses.len() > 100, "{}", courses.len());
}
