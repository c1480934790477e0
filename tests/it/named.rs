//! The three ways in which a command line names apps.

use super::fixture::{SCHEMA, World, row};

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world.database(SCHEMA, &[]);
    world
}

#[test]
fn an_app_is_named_in_three_ways_wherever_one_is_named() {
    for model in ["m", "openai/gpt-4", "a/app9"] {
        let both = |command: &str, rest: &str| {
            [
                format!("{command} {model} 3 {rest}"),
                format!("{command} --model {model} --app 3 {rest}"),
                format!("{command} --model {model} 3 {rest}"),
                format!("{command} {model} --app 3 {rest}"),
                format!("{command} {model}/app3 {rest}"),
            ]
        };
        for ways in [
            both("allocate", ""),
            both("allocate", "--json"),
            both("reserve", "--for 1h"),
            both("exec", "-- echo $BACKEND_PORT"),
            both("release", ""),
            both("release", "--json"),
        ] {
            let answers = ways.map(|line| {
                let world = world();
                if line.starts_with("release") {
                    world.sql(&format!(
                        "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port)
                         VALUES ('{model}', 3, 5001, 8001)"
                    ));
                }
                let answer = world.line(&line);
                assert_eq!(answer.code, Some(0), "{line}: {answer:?}");
                let is_there = world.rows() == [row(model, 3, 5001, 8001)];
                assert_eq!(is_there, !line.starts_with("release"), "{line}");
                // The moments differ from call to call.
                let moments = ["\"created_at\"", ", reserved until"];
                let end = moments.iter().filter_map(|moment| answer.stdout.find(moment)).min();
                answer.stdout[..end.unwrap_or(answer.stdout.len())].to_owned()
            });
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        }
    }
}

#[test]
fn several_apps_of_one_model_may_be_named_in_one_word_each() {
    let world = world();
    world.line("allocate m/app1 m/app3-4 --format plain").is(0, "5001 8001\n5003 8003\n5005 8005\n", "");
    world.line("release m/app3 m/app4,1 -q").ok();
    assert_eq!(world.rows(), []);
    world.line("allocate m/app1 n/app1").fails(2, &["'m' and 'n' are two models"]);
    // With a number beside it, the word is a model's name.
    world.line("allocate m/app1 7 -q").is(0, "m/app1/app7: backend 5001, frontend 8001\n", "");
    assert_eq!(world.rows(), [row("m/app1", 7, 5001, 8001)]);
}

#[test]
fn what_names_no_app_says_how_to_name_one() {
    let world = world();
    for command in ["allocate", "reserve --for 1h", "release", "exec"] {
        let line = |apps: &str| format!("{command} {apps}{}", if command == "exec" { " -- echo" } else { "" });
        for (apps, part) in [
            ("", "no MODEL given"),
            ("m", "no APPS given"),
            ("--model m", "no APPS given"),
            ("--app 1", "no MODEL given"),
            ("m/apple", "no APPS given"),
            ("m/app", "no APPS given"),
            ("m/app0", "'0' is not an app number"),
            ("m/app1x 0", "'0' is not an app number"),
            ("m/app1,", "'' is not an app number"),
            ("./app1", "'.' is not a model"),
        ] {
            let ran = world.line(&line(apps));
            ran.fails(2, &[part]);
            if part.ends_with("given") {
                ran.fails(2, &["MODEL APPS, MODEL/appN or --model MODEL --app APPS", "hint: manage-ports"]);
            }
        }
    }
    world.line("exec m/app1-2 -- echo").fails(2, &["'1-2' names several apps"]);
    assert_eq!(world.rows(), []);
}
