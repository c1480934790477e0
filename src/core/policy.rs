//! Chooses the pair of ports that an app gets, from the taken ports, the plans, the limits and a probe. Apart
//! from the probe, the functions are pure, so that every rule can be tested with plain values.

use super::allocation::PortPair;
use super::app::AppId;
use super::plan::Plans;
use super::ports::{PortSet, is_browser_blocked};
use super::refusal::{Reason, Refusal, Tally};
use super::trace::{Step, Trace};

/// The slots that may be allocated, and the ports that may not.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The backend port of slot 0.
    pub(crate) backend_base: u16,
    /// The frontend port of slot 0, different from `backend_base`.
    pub(crate) frontend_base: u16,
    /// The difference between the ports of two adjacent slots, at least 1.
    pub(crate) step: u16,
    /// The highest port of a slot.
    pub(crate) max: u16,
    /// The ports that are never allocated, except as part of a planned pair.
    pub(crate) excluded: PortSet,
    /// Whether ports that browsers refuse may be allocated.
    pub(crate) allow_browser_blocked: bool,
}

impl Limits {
    /// Returns all slots, lowest first: slot k is `(backend_base + k·step, frontend_base + k·step)`.
    pub(crate) fn slots(&self) -> impl Iterator<Item = PortPair> + Clone {
        let room = self.max.checked_sub(self.backend_base.max(self.frontend_base));
        let count = room.map_or(0, |room| u32::from(room / self.step.max(1)) + 1);
        (0..count).filter_map(|k| {
            let offset = u16::try_from(k).ok()? * self.step;
            PortPair::new(self.backend_base + offset, self.frontend_base + offset)
        })
    }

    /// Returns the reason why the app cannot have the slot, as far as it is known without a probe.
    fn obstacle(&self, slot: PortPair, app: &AppId, plans: &Plans, taken: &PortSet) -> Option<Reason> {
        let ports = slot.ports();
        if ports.iter().any(|&port| taken.contains(port)) {
            Some(Reason::Taken)
        } else if ports.iter().any(|&port| plans.is_for_another(port, app)) {
            Some(Reason::Planned)
        } else {
            ports.into_iter().find_map(|port| self.keeps_back(port))
        }
    }

    /// Returns the reason why no app may have the port, or `None` if the limits allow it.
    fn keeps_back(&self, port: u16) -> Option<Reason> {
        if self.excluded.contains(port) {
            Some(Reason::Excluded)
        } else if !self.allow_browser_blocked && is_browser_blocked(port) {
            Some(Reason::BrowserBlocked)
        } else {
            None
        }
    }
}

/// A function that returns the reason why a new server could not listen on a port, or `None` if it could.
pub(crate) type Probe<'a> = dyn FnMut(u16) -> Option<Reason> + 'a;

/// Chooses a pair for each app: its planned pair if both ports are free, else the lowest free slot.
///
/// A planned pair is taken even if the limits forbid it or this user may not listen on its ports. A slot
/// is free only if its ports are neither planned for another app, nor excluded, nor blocked by browsers.
/// All planned pairs are allocated before the first slot. `probe` is called only for ports that are
/// otherwise free. If there is a `trace`, the steps of the search are added to it.
///
/// # Errors
///
/// [`Refusal::Exhausted`] when fewer pairs are free than apps ask for.
pub(crate) fn choose(
    limits: &Limits,
    apps: &[&AppId],
    plans: &Plans,
    taken: &PortSet,
    probe: &mut Probe<'_>,
    trace: Option<&mut Trace>,
) -> Result<Vec<PortPair>, Refusal> {
    let mut search = Search {
        limits,
        plans,
        taken: taken.clone(),
        probe,
        set_aside: Vec::new(),
        tally: Tally { wanted: apps.len(), ..Tally::default() },
        refused_in_a_row: 0,
        trace,
    };
    let planned: Vec<_> = apps.iter().map(|app| search.planned_pair(app)).collect();
    let mut slots = limits.slots();
    let pairs: Option<_> = apps
        .iter()
        .zip(planned)
        .map(|(app, pair)| pair.or_else(|| search.slot_set_aside(app)).or_else(|| search.next_slot(app, &mut slots)))
        .collect();
    pairs.ok_or(Refusal::Exhausted(search.tally))
}

/// Returns every slot, lowest first, each with the reason why a new app without a plan cannot have it, as
/// far as the reason is known without a probe.
pub(crate) fn survey(
    limits: &Limits,
    plans: &Plans,
    taken: &PortSet,
) -> impl Iterator<Item = (PortPair, Option<Reason>)> {
    // No plan can name this app, because a model's name is never empty.
    let nobody = AppId::new("", 0);
    limits.slots().map(move |slot| (slot, limits.obstacle(slot, &nobody, plans, taken)))
}

/// Checks that an app can have the pair that the user asked for by number.
///
/// A pair on which this user may not listen is accepted, because its app may run as another user.
///
/// # Errors
///
/// [`Refusal::Port`] with the first port that is taken, excluded, blocked by browsers or in use.
pub(crate) fn admit(
    limits: &Limits,
    pair: PortPair,
    taken: &PortSet,
    probe: &mut Probe<'_>,
) -> Result<PortPair, Refusal> {
    let refuse = |port, reason| Err(Refusal::Port { port, reason });
    let ports = pair.ports();
    if let Some(port) = ports.into_iter().find(|&port| taken.contains(port)) {
        return refuse(port, Reason::Taken);
    }
    if let Some((port, reason)) = ports.into_iter().find_map(|port| Some((port, limits.keeps_back(port)?))) {
        return refuse(port, reason);
    }
    match ports.into_iter().find(|&port| probe(port) == Some(Reason::InUse)) {
        Some(port) => refuse(port, Reason::InUse),
        None => Ok(pair),
    }
}

/// After this many slots in a row on which no server could listen, a search tries a sample of the rest.
const REFUSED_IN_A_ROW: usize = 256;

/// The number of slots in the sample that [`Search::is_hopeless`] probes.
const SAMPLES: usize = 64;

/// The state of a search for pairs, which handles one app after the other.
struct Search<'a, 'b> {
    limits: &'a Limits,
    plans: &'a Plans,
    /// The ports that are taken, including those of the pairs found so far.
    taken: PortSet,
    probe: &'a mut Probe<'b>,
    /// The slots that the search skipped because they are planned for an app other than the one that it
    /// was searching for.
    set_aside: Vec<PortPair>,
    tally: Tally,
    /// The number of successive probed slots, up to the last one, on which no server could listen.
    refused_in_a_row: usize,
    trace: Option<&'a mut Trace>,
}

impl Search<'_, '_> {
    /// Takes the app's planned pair, if both ports are free.
    fn planned_pair(&mut self, app: &AppId) -> Option<PortPair> {
        let pair = self.plans.pair_of(app)?;
        let is_free = |port: u16| !self.taken.contains(port) && (self.probe)(port) != Some(Reason::InUse);
        if pair.ports().into_iter().all(is_free) {
            return Some(self.take(app, pair));
        }
        self.tell(|| Step::PlanFailed(app.clone(), pair));
        None
    }

    /// Takes the lowest free slot in `set_aside` that has a port planned for this app alone.
    fn slot_set_aside(&mut self, app: &AppId) -> Option<PortPair> {
        let planned = self.plans.pair_of(app)?.ports();
        let set_aside = std::mem::take(&mut self.set_aside);
        let slot = set_aside.iter().copied().find(|slot| {
            slot.ports().iter().any(|port| planned.contains(port))
                && self.obstacle(*slot, app).is_none()
                && self.refused(*slot).is_none()
        });
        self.set_aside = set_aside;
        self.tally.planned -= usize::from(slot.is_some());
        self.tally.free += usize::from(slot.is_some());
        slot.map(|slot| self.take(app, slot))
    }

    /// Takes the first of the remaining slots that the app can have.
    ///
    /// A search never releases a port, so a slot that no app can have need not be checked again.
    fn next_slot(&mut self, app: &AppId, slots: &mut (impl Iterator<Item = PortPair> + Clone)) -> Option<PortPair> {
        while let Some(slot) = slots.next() {
            self.tally.slots += 1;
            let obstacle = self.obstacle(slot, app);
            if let Some(reason) = obstacle {
                self.pass_over(app, slot, reason);
            }
            match obstacle {
                Some(Reason::Taken) => self.tally.taken += 1,
                Some(Reason::Planned) => {
                    self.tally.planned += 1;
                    self.set_aside.push(slot);
                }
                Some(_) => self.tally.kept_back += 1,
                None => {
                    let refused = self.refused(slot);
                    if let (Some((port, reason)), Some(trace)) = (refused, &mut self.trace) {
                        trace.pass_over(app, slot, port, reason);
                    }
                    match refused {
                        None => {
                            self.tally.free += 1;
                            self.refused_in_a_row = 0;
                            return Some(self.take(app, slot));
                        }
                        Some((_, Reason::NotPermitted)) => self.tally.not_permitted += 1,
                        Some((port, _)) => self.tally.in_use.push(port),
                    }
                    self.refused_in_a_row += 1;
                    if self.refused_in_a_row == REFUSED_IN_A_ROW && self.is_hopeless(app, slots.clone()) {
                        self.tally.given_up = true;
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Tells whether a server could listen on none of the slots in a sample of the remaining ones.
    ///
    /// Without this sample, a search on a system that refuses every port would probe all ports while it
    /// holds the write lock.
    fn is_hopeless(&mut self, app: &AppId, slots: impl Iterator<Item = PortPair>) -> bool {
        let slots: Vec<_> = slots.filter(|&slot| self.obstacle(slot, app).is_none()).collect();
        // The sample begins at the highest slot, because some users may listen on high ports alone.
        let mut sample = slots.iter().rev().step_by((slots.len() / SAMPLES).max(1));
        !slots.is_empty() && sample.all(|&slot| self.refused(slot).is_some())
    }

    /// Returns the reason why the app cannot have the slot, as far as it is known without a probe.
    fn obstacle(&self, slot: PortPair, app: &AppId) -> Option<Reason> {
        self.limits.obstacle(slot, app, self.plans, &self.taken)
    }

    /// Returns the first port of the slot on which a new server could not listen, and the reason.
    fn refused(&mut self, slot: PortPair) -> Option<(u16, Reason)> {
        slot.ports().into_iter().find_map(|port| Some((port, (self.probe)(port)?)))
    }

    fn take(&mut self, app: &AppId, pair: PortPair) -> PortPair {
        self.taken.extend(pair.ports());
        self.tell(|| Step::Took(app.clone(), pair));
        pair
    }

    /// Adds a slot that the app cannot have to the trace, with the port that is the obstacle.
    fn pass_over(&mut self, app: &AppId, slot: PortPair, reason: Reason) {
        let Some(trace) = &mut self.trace else { return };
        let is_obstacle = |port: &u16| match reason {
            Reason::Taken => self.taken.contains(*port),
            Reason::Planned => self.plans.is_for_another(*port, app),
            _ => self.limits.keeps_back(*port).is_some(),
        };
        let port = slot.ports().into_iter().find(is_obstacle).unwrap_or(slot.backend);
        trace.pass_over(app, slot, port, reason);
    }

    fn tell(&mut self, step: impl FnOnce() -> Step) {
        if let Some(trace) = &mut self.trace {
            trace.add(step());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::trace::{PassedOver, STEPS_MAX};
    use super::*;

    fn limits() -> Limits {
        Limits {
            backend_base: 5001,
            frontend_base: 8001,
            step: 2,
            max: 65535,
            excluded: PortSet::new(),
            allow_browser_blocked: false,
        }
    }

    fn app(number: i64) -> AppId {
        AppId::new("m", number)
    }

    /// Chooses pairs for this number of apps without plans.
    fn choose_for(
        wanted: i64,
        limits: &Limits,
        taken: &PortSet,
        probe: impl FnMut(u16) -> Option<Reason>,
    ) -> Result<Vec<PortPair>, Refusal> {
        choose_planned(wanted, limits, &Plans::default(), taken, probe)
    }

    fn choose_planned(
        wanted: i64,
        limits: &Limits,
        plans: &Plans,
        taken: &PortSet,
        mut probe: impl FnMut(u16) -> Option<Reason>,
    ) -> Result<Vec<PortPair>, Refusal> {
        let apps: Vec<_> = (1..=wanted).map(app).collect();
        choose(limits, &apps.iter().collect::<Vec<_>>(), plans, taken, &mut probe, None)
    }

    fn in_use(is_in_use: bool) -> Option<Reason> {
        is_in_use.then_some(Reason::InUse)
    }

    fn pair(backend: u16, frontend: u16) -> PortPair {
        PortPair::new(backend, frontend).unwrap()
    }

    #[test]
    fn slots_run_from_the_bases_to_the_highest_port() {
        let slots: Vec<_> = limits().slots().collect();
        assert_eq!(slots.len(), 28768);
        assert_eq!(slots[0], pair(5001, 8001));
        assert_eq!(slots[28767], pair(62535, 65535));
        assert_eq!(Limits { max: 8000, ..limits() }.slots().count(), 0);
        let all = Limits { backend_base: 1, frontend_base: 2, step: 1, ..limits() };
        assert_eq!(all.slots().last(), Some(pair(65534, 65535)));
    }

    #[test]
    fn another_apps_frontend_is_not_handed_out_as_a_backend() {
        let limits = Limits { backend_base: 8001, frontend_base: 9001, ..limits() };
        let taken: PortSet = [5001, 8001].into_iter().collect();
        assert_eq!(choose_for(1, &limits, &taken, |_| None), Ok(vec![pair(8003, 9003)]));
    }

    #[test]
    fn a_planned_pair_is_taken_as_written_if_it_is_free() {
        let plans: Plans =
            [(app(2), pair(6000, 5060)), (app(3), pair(9000, 6000)), (app(4), pair(5001, 8001))].into_iter().collect();
        let chosen = choose_planned(5, &limits(), &plans, &PortSet::new(), |_| None);
        let expected = [pair(5003, 8003), pair(6000, 5060), pair(5005, 8005), pair(5001, 8001), pair(5007, 8007)];
        assert_eq!(chosen, Ok(expected.to_vec()));
        let plans: Plans = [(app(1), pair(6000, 5060))].into_iter().collect();
        let chosen =
            |reason| choose_planned(1, &limits(), &plans, &PortSet::new(), |port| (port == 5060).then_some(reason));
        assert_eq!(chosen(Reason::InUse), Ok(vec![pair(5001, 8001)]));
        assert_eq!(chosen(Reason::NotPermitted), Ok(vec![pair(6000, 5060)]), "its app may run as another user");
    }

    #[test]
    fn a_slot_planned_for_another_app_is_passed_over() {
        // Each plan names ports of slots, one of them in the other column; two pairs have a taken port.
        let plans: Plans =
            [(app(2), pair(8001, 7001)), (app(9), pair(5003, 8003)), (app(3), pair(5005, 7003))].into_iter().collect();
        let taken: PortSet = [7001, 7003].into_iter().collect();
        let chosen = choose_planned(4, &limits(), &plans, &taken, |_| None);
        // The slots skipped for the first app go to the apps that they are planned for.
        assert_eq!(chosen, Ok(vec![pair(5007, 8007), pair(5001, 8001), pair(5005, 8005), pair(5009, 8009)]));
        // One of its ports is planned for this app, and the other for another app.
        let both: Plans = [(app(2), pair(5001, 7001)), (app(9), pair(8001, 7005))].into_iter().collect();
        let chosen = choose_planned(2, &limits(), &both, &taken, |_| None);
        assert_eq!(chosen, Ok(vec![pair(5003, 8003), pair(5005, 8005)]));
        let small = Limits { max: 8003, ..limits() };
        let Err(Refusal::Exhausted(tally)) = choose_planned(1, &small, &plans, &taken, |_| None) else {
            panic!("both slots are planned for others");
        };
        assert_eq!((tally.slots, tally.planned), (2, 2));
        // A slot that its own app took counts as free again.
        let one: Plans = [(app(2), pair(8001, 7001))].into_iter().collect();
        let Err(Refusal::Exhausted(tally)) = choose_planned(3, &small, &one, &taken, |_| None) else {
            panic!("there are two slots");
        };
        assert_eq!((tally.slots, tally.planned, tally.free), (2, 0, 2));
    }

    #[test]
    fn a_trace_tells_each_step_of_a_search_and_changes_none() {
        let limits = Limits { excluded: [5007].into_iter().collect(), ..limits() };
        let plans: Plans = [(app(2), pair(7001, 7003)), (app(9), pair(9009, 8009))].into_iter().collect();
        let taken: PortSet = [7003, 8001, 8003, 5005].into_iter().collect();
        let mut probe = |port| in_use(port == 8011);
        let apps = [app(1), app(2)];
        let apps: Vec<_> = apps.iter().collect();
        let mut trace = Trace::default();
        let chosen = choose(&limits, &apps, &plans, &taken, &mut probe, Some(&mut trace));
        assert_eq!(chosen, choose(&limits, &apps, &plans, &taken, &mut probe, None));
        let passed = |first, last, slots, port, reason| {
            Step::PassedOver(PassedOver { app: app(1), first, last, slots, port, reason })
        };
        let one = |slot, port, reason| passed(slot, slot, 1, port, reason);
        let expected = [
            Step::PlanFailed(app(2), pair(7001, 7003)),
            passed(pair(5001, 8001), pair(5005, 8005), 3, 8001, Reason::Taken),
            one(pair(5007, 8007), 5007, Reason::Excluded),
            one(pair(5009, 8009), 8009, Reason::Planned),
            one(pair(5011, 8011), 8011, Reason::InUse),
            Step::Took(app(1), pair(5013, 8013)),
            Step::Took(app(2), pair(5015, 8015)),
        ];
        assert_eq!((trace.steps.as_slice(), trace.more), (&expected[..], 0));
    }

    #[test]
    fn a_survey_tells_of_each_slot_why_a_new_app_cannot_have_it() {
        let limits = Limits { max: 8005, excluded: [5003].into_iter().collect(), ..limits() };
        let plans: Plans = [(app(1), pair(5005, 9005))].into_iter().collect();
        let taken: PortSet = [8001].into_iter().collect();
        let found: Vec<_> = survey(&limits, &plans, &taken).collect();
        let expected = [(5001, Reason::Taken), (5003, Reason::Excluded), (5005, Reason::Planned)];
        assert_eq!(found, expected.map(|(backend, reason)| (pair(backend, backend + 3000), Some(reason))));
    }

    #[test]
    fn a_long_trace_is_cut_off() {
        let apps: Vec<_> = (1..=300).map(app).collect();
        let apps: Vec<_> = apps.iter().collect();
        let mut trace = Trace::default();
        let chosen = choose(&limits(), &apps, &Plans::default(), &PortSet::new(), &mut |_| None, Some(&mut trace));
        assert_eq!(chosen.map(|pairs| pairs.len()), Ok(300));
        // One of the first 301 slots is blocked by browsers.
        assert_eq!((trace.steps.len(), trace.steps.len() + trace.more), (STEPS_MAX, 301));
    }

    #[test]
    fn a_pair_asked_for_is_refused_with_its_reason() {
        let limits = Limits { excluded: [7000].into_iter().collect(), ..limits() };
        let taken: PortSet = [5001].into_iter().collect();
        let probe = |port| match port {
            7777 => Some(Reason::InUse),
            7003 => Some(Reason::NotPermitted),
            _ => None,
        };
        let refused = |backend, frontend| admit(&limits, pair(backend, frontend), &taken, &mut { probe });
        let because = |port, reason| Err(Refusal::Port { port, reason });
        assert_eq!(refused(7001, 5001), because(5001, Reason::Taken));
        assert_eq!(refused(7000, 7777), because(7000, Reason::Excluded));
        assert_eq!(refused(7001, 5060), because(5060, Reason::BrowserBlocked));
        assert_eq!(refused(7777, 7001), because(7777, Reason::InUse));
        assert_eq!(refused(7001, 7003), Ok(pair(7001, 7003)));
    }

    #[test]
    fn a_search_that_fails_says_where_the_slots_went() {
        let limits = Limits { max: 8011, excluded: [5005].into_iter().collect(), ..limits() };
        let taken: PortSet = [8001].into_iter().collect();
        let probe = |port| match port {
            8007 => Some(Reason::InUse),
            5009 => Some(Reason::NotPermitted),
            _ => None,
        };
        let Err(Refusal::Exhausted(tally)) = choose_for(3, &limits, &taken, probe) else {
            panic!("four of six slots are not free");
        };
        let expected = Tally {
            wanted: 3,
            free: 2,
            slots: 6,
            taken: 1,
            kept_back: 1,
            not_permitted: 1,
            in_use: vec![8007],
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn a_search_is_given_up_where_no_port_at_all_can_be_had() {
        let mut probed = 0;
        let all_refused = choose_for(1, &limits(), &PortSet::new(), |_| {
            probed += 1;
            Some(Reason::InUse)
        });
        let Err(Refusal::Exhausted(tally)) = all_refused else { panic!("no port can be had") };
        assert_eq!((tally.given_up, tally.in_use.len()), (true, REFUSED_IN_A_ROW));
        assert!(probed < 400, "{probed} ports were asked about");

        // A search goes on after many ports in use in a row, and after many that this user may not bind to.
        for reason in [Reason::InUse, Reason::NotPermitted] {
            let refused = |port: u16| (port < 60_000).then_some(reason);
            assert_eq!(choose_for(1, &limits(), &PortSet::new(), refused), Ok(vec![pair(60_001, 63_001)]));
            // The sample is not of the highest ports alone.
            let refused = |port: u16| (!(20_000..40_000).contains(&port)).then_some(reason);
            assert_eq!(choose_for(1, &limits(), &PortSet::new(), refused), Ok(vec![pair(20_001, 23_001)]));
        }
    }

    prop_compose! {
        fn any_limits()(
            backend_base in 1u16..400, distance in 1u16..60, swap: bool, step in 1u16..7,
            max in 1u16..700, excluded in prop::collection::vec(1u16..700, 0..40), allow_browser_blocked: bool,
        ) -> Limits {
            let (low, high) = (backend_base, backend_base + distance);
            let (backend_base, frontend_base) = if swap { (high, low) } else { (low, high) };
            let excluded = excluded.into_iter().collect();
            Limits { backend_base, frontend_base, step, max, excluded, allow_browser_blocked }
        }
    }

    proptest! {
        #[test]
        fn every_choice_is_free_allowed_lowest_and_repeatable(
            limits in any_limits(),
            taken in prop::collection::vec(1u16..700, 0..200),
            listening in prop::collection::vec(1u16..700, 0..20),
            planned in prop::collection::vec((1i64..30, 1u16..700, 1u16..700), 0..20),
            wanted in 1i64..12,
        ) {
            let planned = planned.iter().filter_map(|&(number, backend, frontend)| {
                Some((app(number), PortPair::new(backend, frontend)?))
            });
            let plans: Plans = planned.collect();
            let taken: PortSet = taken.into_iter().collect();
            let usable = |port: u16, taken: &PortSet| {
                !taken.contains(port) && !listening.contains(&port) && !limits.excluded.contains(port)
                    && (limits.allow_browser_blocked || !is_browser_blocked(port))
            };
            let choose = || choose_planned(wanted, &limits, &plans, &taken, |port| in_use(listening.contains(&port)));

            // The slow way takes planned pairs first, then searches all slots from the first for each app.
            let mut now_taken = taken.clone();
            let mut expected = vec![None; wanted as usize];
            for (pair, number) in expected.iter_mut().zip(1..) {
                let is_free = |port: &u16| !now_taken.contains(*port) && !listening.contains(port);
                *pair = plans.pair_of(&app(number)).filter(|pair| pair.ports().iter().all(is_free));
                now_taken.extend(pair.iter().flat_map(|pair| pair.ports()));
            }
            for (pair, number) in expected.iter_mut().zip(1..).filter(|(pair, _)| pair.is_none()) {
                let (mut backend, mut frontend) = (u32::from(limits.backend_base), u32::from(limits.frontend_base));
                while backend.max(frontend) <= u32::from(limits.max) {
                    let slot = PortPair::new(backend as u16, frontend as u16).unwrap();
                    let is_free = |&port: &u16| usable(port, &now_taken) && !plans.is_for_another(port, &app(number));
                    if slot.ports().iter().all(is_free) {
                        now_taken.extend(slot.ports());
                        *pair = Some(slot);
                        break;
                    }
                    backend += u32::from(limits.step);
                    frontend += u32::from(limits.step);
                }
            }
            let expected: Option<Vec<_>> = expected.into_iter().collect();

            match choose() {
                Ok(pairs) => prop_assert_eq!(Some(pairs), expected),
                Err(Refusal::Exhausted(tally)) => {
                    prop_assert_eq!(None, expected);
                    let Tally { free, taken, planned, kept_back, in_use, .. } = &tally;
                    prop_assert_eq!(tally.slots, free + taken + planned + kept_back + in_use.len());
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            prop_assert_eq!(choose(), choose());
        }
    }
}
