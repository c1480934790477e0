#compdef manage-ports
# zsh completion of manage-ports. The program answers with a value and its description a line.
_manage-ports() {
    local -i dashes=${words[(i)--]}
    if (( dashes > 1 && dashes < CURRENT )); then
        # The command behind `exec … --`.
        shift $dashes words
        (( CURRENT -= dashes ))
        _normal
        return
    fi
    local -a typed=("${(@Q)words[1,CURRENT - 1]}" "${(Q)PREFIX}")
    local -a answers=("${(@f)$(MANAGE_PORTS_COMPLETE=zsh manage-ports -- "${typed[@]}" 2>/dev/null)}")
    local -a open=("${(@M)answers:#*[/=](|:*)}") whole=("${(@)answers:#*[/=](|:*)}")
    # A blank follows a whole word, and neither a folder nor a flag that waits for its value.
    [[ -n $whole ]] && _describe -V values whole
    [[ -n $open ]] && _describe -V values open -S ''
}
# Called by the first completion where it was loaded from fpath, sourced otherwise.
if [[ $funcstack[1] == _manage-ports ]]; then
    _manage-ports "$@"
else
    compdef _manage-ports manage-ports
fi
