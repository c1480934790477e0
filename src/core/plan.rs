//! Models plans: pairs of ports that a file assigns to apps before the apps have rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::allocation::PortPair;
use super::app::AppId;

/// The pair that is planned for each app, and the app that each port is planned for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans {
    pairs: HashMap<AppId, PortPair>,
    /// The one app that each planned port is planned for; `None` if the port is planned for several apps.
    apps: HashMap<u16, Option<AppId>>,
}

impl Plans {
    /// Returns the pair that is planned for the app.
    pub(crate) fn pair_of(&self, app: &AppId) -> Option<PortPair> {
        self.pairs.get(app).copied()
    }

    /// Returns the app that the port is planned for, if it is one alone.
    pub(crate) fn app_of(&self, port: u16) -> Option<&AppId> {
        self.apps.get(&port)?.as_ref()
    }

    /// Tells whether the port is planned for another app, or for several apps.
    pub(crate) fn is_for_another(&self, port: u16, app: &AppId) -> bool {
        self.apps.get(&port).is_some_and(|planned| planned.as_ref() != Some(app))
    }
}

impl FromIterator<(AppId, PortPair)> for Plans {
    /// Collects plans; if an app occurs twice, its first plan counts.
    fn from_iter<I: IntoIterator<Item = (AppId, PortPair)>>(planned: I) -> Self {
        let mut plans = Self::default();
        for (app, pair) in planned {
            let Entry::Vacant(free) = plans.pairs.entry(app) else { continue };
            for port in pair.ports() {
                let app = free.key().clone();
                plans.apps.entry(port).and_modify(|planned| *planned = None).or_insert(Some(app));
            }
            free.insert(pair);
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_port_is_its_own_apps_and_nobodys_where_two_plan_it() {
        let app = |number| AppId::new("m", number);
        let pair = |backend, frontend| PortPair::new(backend, frontend).unwrap();
        let plans: Plans = [(app(1), pair(1, 2)), (app(2), pair(2, 3)), (app(1), pair(4, 5))].into_iter().collect();
        assert_eq!(plans.pair_of(&app(1)), Some(pair(1, 2)), "the first counts");
        assert_eq!(plans.pair_of(&app(3)), None);
        let app_of = [1, 2, 3, 4].map(|port| plans.app_of(port).cloned());
        assert_eq!(app_of, [Some(app(1)), None, Some(app(2)), None]);
        let is_for_another = |port| [1, 2, 3].map(|number| plans.is_for_another(port, &app(number)));
        assert_eq!(is_for_another(1), [false, true, true]);
        assert_eq!(is_for_another(2), [true, true, true]);
        assert_eq!(is_for_another(3), [true, false, true]);
        assert_eq!(is_for_another(4), [false, false, false]);
    }
}
