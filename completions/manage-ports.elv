
set edit:completion:arg-completer[manage-ports] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) MANAGE_PORTS_COMPLETE="elvish" manage-ports -- $@words) | to-lines
}

