//! This file joins findings for people to read: one line for many apps of a model.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Kind, list};
use crate::core::text::{Shown, listed, ranges};

/// If a kind has at most this many groups, each line ends with the advice. Otherwise the line above them has
/// it.
const HINTS_MAX: usize = 3;

/// The most findings of a kind, without an app, that are shown in lines of their own.
const LINES_MAX: usize = 10;

/// Formats findings as lines, each of which follows a dash. A conflict among rows has a line of its own. All
/// other findings of the same kind and model share a line.
pub(crate) fn grouped(findings: &[&Finding]) -> Vec<String> {
    let findings = told_once(findings);
    findings.chunk_by(|one, other| one.finding.kind == other.finding.kind).flat_map(lines_of_kind).collect()
}

/// A finding, and the number of other findings that it stands for.
struct Told {
    finding: Finding,
    more: usize,
}

/// Joins two findings about one file: that it names another app's port, and that it does not name its own
/// app's port.
fn told_once(findings: &[&Finding]) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    let mut differing = BTreeMap::<_, Vec<usize>>::new();
    for &finding in findings {
        let place = (finding.file.clone(), finding.apps.first().cloned());
        if finding.kind == Kind::DeclaredClash
            && let [port] = finding.ports.as_slice()
            && let Some(&index) = differing
                .get(&place)
                .and_then(|places| places.iter().find(|&&index| told[index].finding.ports.contains(port)))
        {
            let differs: &mut Told = &mut told[index];
            differs.finding.message += &format!(", and {port} is allocated to {}", list(&finding.apps[1..]));
            differs.more += 1;
            continue;
        }
        if finding.kind == Kind::DeclaredPortsDiffer {
            differing.entry(place).or_default().push(told.len());
        }
        told.push(Told { finding: finding.clone(), more: 0 });
    }
    told
}

/// Returns the lines for findings of one kind.
fn lines_of_kind(findings: &[Told]) -> Vec<String> {
    let Some(kind) = findings.first().map(|told| told.finding.kind) else { return Vec::new() };
    if kind <= Kind::DirectoryClash {
        return findings.iter().map(|told| told.finding.told()).collect();
    }
    let mut groups: Vec<(Option<&str>, Vec<&Told>)> = Vec::new();
    let mut places = BTreeMap::new();
    for told in findings {
        let model = model_of(&told.finding);
        let place = *places.entry(model).or_insert(groups.len());
        if place == groups.len() {
            groups.push((model, Vec::new()));
        }
        groups[place].1.push(told);
    }
    let is_folded = |(model, group): &&(Option<&str>, Vec<&Told>)| model.is_some() && group.len() > 1;
    let has_headline = groups.iter().filter(is_folded).count() > HINTS_MAX;
    let mut lines = Vec::new();
    if has_headline {
        let count =
            groups.iter().filter(is_folded).flat_map(|(_, group)| group).map(|told| 1 + told.more).sum::<usize>();
        lines.push(format!("{count} {}; {}:", noun(kind), kind.advice()));
    }
    for (model, group) in &groups {
        match model {
            Some(model) if group.len() > 1 && has_headline => lines.push(format!("  {}", apps_and_ports(model, group))),
            Some(model) if group.len() > 1 => {
                let count: usize = group.iter().map(|told| 1 + told.more).sum();
                lines.push(format!("{}: {count} {}; {}", apps_and_ports(model, group), noun(kind), kind.advice()));
            }
            _ => {
                lines.extend(group.iter().take(LINES_MAX).map(|told| told.finding.told()));
                let more = group.len().saturating_sub(LINES_MAX);
                if more > 0 {
                    lines.push(format!("{more} more {}", noun(kind)));
                }
            }
        }
    }
    lines
}

/// Returns the model that a finding is about, or `None` if it is about no model or about several.
fn model_of(finding: &Finding) -> Option<&str> {
    let model = finding.apps.first()?.model.as_str();
    let is_one = finding.kind == Kind::DeclaredClash || finding.kind == Kind::NotPublished;
    (is_one || finding.apps.iter().all(|app| app.model == model)).then_some(model)
}

/// Formats the apps of a group with the ports and files concerned, such as `m/app1-30 (5001, 5003 in .env)`.
fn apps_and_ports(model: &str, group: &[&Told]) -> String {
    let findings = || group.iter().map(|told| &told.finding);
    let apps: BTreeSet<_> = findings().filter_map(|finding| finding.apps.first()).map(|app| app.app_num).collect();
    let apps = format!("{}/app{}", Shown(model), ranges(&apps).join(","));
    let files: BTreeSet<_> = findings()
        .filter_map(|finding| finding.file.as_deref()?.rsplit('/').next())
        .map(|file| Shown(file).to_string())
        .collect();
    let has_ports = findings().all(|finding| {
        matches!(
            finding.kind,
            Kind::DeclaredPortsDiffer
                | Kind::DeclaredClash
                | Kind::OrphanListening
                | Kind::BrowserBlockedPort
                | Kind::NotPublished
        )
    });
    let ports: BTreeSet<_> = findings().filter(|_| has_ports).flat_map(|finding| &finding.ports).collect();
    let [ports, files] = [listed(&ports, ports.len()), listed(&files, files.len())];
    match (ports.as_str(), files.as_str()) {
        ("", "") => apps,
        (details, "") | ("", details) => format!("{apps} ({details})"),
        _ => format!("{apps} ({ports} in {files})"),
    }
}

/// Returns the noun for several findings of a kind.
fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::DuplicateBackendPort | Kind::DuplicateFrontendPort | Kind::CrossRolePort => "ports of several apps",
        Kind::DuplicateApp => "apps with several allocations",
        Kind::InvalidPort => "numbers that are no ports",
        Kind::DirectoryClash => "directories of several apps",
        Kind::DeclaredPortsDiffer => "ports in files that are not the allocated ones",
        Kind::DeclaredClash => "ports in files that are allocated to other apps",
        Kind::Orphaned => "allocations without a directory",
        Kind::OrphanListening => "ports in use of apps without a directory",
        Kind::UnallocatedApp => "directories without an allocation",
        Kind::MisnamedDirectory => "directories that are no apps'",
        Kind::BrowserBlockedPort => "ports that browsers refuse to open",
        Kind::EphemeralPort => "ports inside this machine's ephemeral range",
        Kind::ExpiredReservation => "reservations that are over",
        Kind::WeakSchema => "missing indexes",
        Kind::WeakStorage => "weak places",
        Kind::NoAppsDir => "missing apps directories",
        Kind::NotPublished => "ports that a service does not publish",
        Kind::RefusedPort => "ports that Compose refuses",
        Kind::Unreadable => "things that could not be read",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::about;
    use super::*;
    use crate::core::allocation::tests::row;
    use crate::core::app::AppId;

    fn orphan(model: &str, app_num: i64) -> Finding {
        about(
            Kind::Orphaned,
            format!("{model}/app{app_num} has no directory"),
            &row(app_num, model, app_num, 5001, 8001),
        )
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        grouped(&findings.iter().collect::<Vec<_>>())
    }

    #[test]
    fn apps_of_a_model_are_told_together_as_ranges() {
        let advice = Kind::Orphaned.advice();
        let mut findings = vec![orphan("a", 1), orphan("b", 7)];
        findings.extend([2, 3, 9].map(|n| orphan("a", n)));
        assert_eq!(
            lines(&findings),
            [
                format!("a/app1-3,9: 4 allocations without a directory; {advice}"),
                format!("b/app7 has no directory; {advice}"),
            ]
        );
    }

    #[test]
    fn of_many_models_what_to_do_is_told_once() {
        let findings: Vec<_> =
            ["a", "b", "c", "d"].iter().flat_map(|model| [orphan(model, 1), orphan(model, 2)]).collect();
        let headline = format!("8 allocations without a directory; {}:", Kind::Orphaned.advice());
        assert_eq!(lines(&findings), [&headline[..], "  a/app1-2", "  b/app1-2", "  c/app1-2", "  d/app1-2"]);

        // An app that is alone keeps its line.
        let single = format!("e/app7 has no directory; {}", Kind::Orphaned.advice());
        let with_single = lines(&[findings.clone(), vec![orphan("e", 7)]].concat());
        assert_eq!((with_single[0].as_str(), with_single.last()), (headline.as_str(), Some(&single)));
    }

    #[test]
    fn of_few_models_each_line_has_the_advice_and_single_apps_are_no_group() {
        let mut findings: Vec<_> =
            ["a", "b", "c"].iter().flat_map(|model| [orphan(model, 1), orphan(model, 2)]).collect();
        findings.push(orphan("d", 1));
        let lines = lines(&findings);
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.ends_with(Kind::Orphaned.advice())), "{lines:?}");
    }

    #[test]
    fn a_group_has_the_ports_and_files_that_there_are_and_the_app_of_a_file_is_its_model() {
        let to = |other: &str, mut found: Finding| {
            found.apps.push(AppId::new(other, 1));
            found
        };
        for (findings, start) in [
            (
                [1, 2].map(|n| to("x", in_file(Kind::DeclaredClash, n, &[5000 + n], "?"))),
                "m/app1-2 (5001, 5002 in .env): 2 ports in files that are allocated to other apps; ",
            ),
            (
                [1, 2].map(|n| to("x", in_file(Kind::NotPublished, n, &[5003], "?"))),
                "m/app1-2 (5003 in .env): 2 ports that a service does not publish; ",
            ),
            (
                [1, 2].map(|n| in_file(Kind::Unreadable, n, &[], "?")),
                "m/app1-2 (.env): 2 things that could not be read; ",
            ),
            (
                [1, 2].map(|n| Finding { file: None, ..in_file(Kind::OrphanListening, n, &[5000 + n], "?") }),
                "m/app1-2 (5001, 5002): 2 ports in use of apps without a directory; ",
            ),
        ] {
            let lines = lines(&findings);
            assert!(lines.len() == 1 && lines[0].starts_with(start), "{lines:?}");
        }
        // Findings that are about apps of several models do not share a line.
        let several = [1, 2].map(|n| to("x", in_file(Kind::EphemeralPort, n, &[40000], "?")));
        assert_eq!(lines(&several).len(), 2);
    }

    #[test]
    fn the_headline_counts_the_findings_that_are_told_with_others() {
        let of = |kind, model: &str, app_num| Finding {
            ports: vec![5003],
            file: Some(format!("{model}/app{app_num}/.env")),
            ..about(kind, "differs".to_owned(), &row(1, model, app_num, 1, 2))
        };
        let mut findings: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|model| [1, 2].map(|n| of(Kind::DeclaredPortsDiffer, model, n)))
            .collect();
        findings.push(of(Kind::DeclaredClash, "a", 1));
        let headline =
            format!("9 ports in files that are not the allocated ones; {}:", Kind::DeclaredPortsDiffer.advice());
        assert_eq!(lines(&findings)[0], headline);
    }

    fn in_file(kind: Kind, app_num: i64, ports: &[i64], message: &str) -> Finding {
        let found = about(kind, message.to_owned(), &row(1, "m", app_num, 1, 2));
        Finding { ports: ports.to_vec(), file: Some(format!("m/app{app_num}/.env")), ..found }
    }

    #[test]
    fn a_port_that_differs_and_clashes_is_told_once() {
        let mut clash = in_file(Kind::DeclaredClash, 1, &[5003], "clashes");
        clash.apps.push(AppId::new("n", 2));
        let other = in_file(Kind::DeclaredClash, 2, &[5003], "another file's");
        let differs = in_file(Kind::DeclaredPortsDiffer, 1, &[5001, 5003], "differs");
        assert_eq!(
            lines(&[differs.clone(), clash.clone(), other]),
            [
                format!("differs, and 5003 is allocated to n/app2; {}", Kind::DeclaredPortsDiffer.advice()),
                format!("another file's; {}", Kind::DeclaredClash.advice()),
            ]
        );
        // Both findings count.
        let second = in_file(Kind::DeclaredPortsDiffer, 2, &[5003, 5005], "differs");
        assert_eq!(
            lines(&[differs, second, clash]),
            [format!(
                "m/app1-2 (5001, 5003, 5005 in .env): 3 ports in files that are not the allocated ones; {}",
                Kind::DeclaredPortsDiffer.advice()
            )]
        );
    }

    #[test]
    fn conflicts_among_rows_have_a_line_each_and_of_what_is_no_apps_the_first_have() {
        let invalid = |n| about(Kind::InvalidPort, format!("invalid {n}"), &row(n, "m", n, 0, 1));
        assert_eq!(lines(&(1..=30).map(invalid).collect::<Vec<_>>()).len(), 30);
        let misnamed =
            |n| Finding { apps: Vec::new(), ..about(Kind::MisnamedDirectory, "?".into(), &row(n, "m", n, 0, 1)) };
        let lines = lines(&(1..=13).map(misnamed).collect::<Vec<_>>());
        assert_eq!((lines.len(), lines[10].as_str()), (11, "3 more directories that are no apps'"));
    }
}
