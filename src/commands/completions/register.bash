# bash completion of manage-ports. The program reads the command line itself, as bash splits words
# at : and =, and answers with what is to be inserted, quoted.
_manage_ports() {
    local IFS=$'\n' i
    # An argument of the command behind `exec … --` is completed as that command's own, where the
    # package bash-completion is loaded.
    for ((i = 2; i < COMP_CWORD - 1; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset $((i + 1))
            return
        elif declare -F _command_offset >/dev/null; then
            _command_offset $((i + 1))
            return
        fi
    done
    COMPREPLY=($(MANAGE_PORTS_COMPLETE=bash manage-ports -- "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null))
    # A blank follows a whole word, and neither a folder nor a flag that waits for its value.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
if ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4)); then
    complete -o nosort -F _manage_ports manage-ports
else
    complete -F _manage_ports manage-ports
fi
