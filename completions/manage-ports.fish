# fish completion of manage-ports. The program answers with a value and its description a line.
function __manage_ports_complete
    set -l typed (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    if set -l dashes (contains --index -- -- $typed)
        # The command behind `exec … --`.
        set -l behind (string escape -- $typed[(math $dashes + 1)..])
        complete --do-complete "$(string join ' ' -- $behind $current)"
        return
    end
    MANAGE_PORTS_COMPLETE=fish manage-ports -- $typed $current 2>/dev/null
end
complete --keep-order --exclusive --command manage-ports --arguments "(__manage_ports_complete)"
