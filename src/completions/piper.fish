# fish completion for piper. Commands and options are those that the program lists itself.

function __piper_commands
    piper --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  *\(.*\)/\1\t\2/p'
end

function __piper_options
    set -l words (commandline -opc)
    test (count $words) -ge 2; and piper $words[2] --help 2>/dev/null | sed -n 's/^  \(-[a-z], \|    \)\(--[a-z0-9-]*\) \{0,1\}\([^ ]*\)  *\(.*\)/\2\t\4/p'
end

complete -c piper -n 'test (count (commandline -opc)) -eq 1' -f -a '(__piper_commands)'
complete -c piper -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__piper_options)'
