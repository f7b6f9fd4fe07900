# fish completion for piper. Commands and options are those that the program lists itself.

function __piper_commands
    piper --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  *\(.*\)/\1\t\2/p'
end

function __piper_options
    set -l words (commandline -opc)
    test (count $words) -ge 2; and piper $words[2] --help 2>/dev/null | sed -n 's/^  \(-[a-z], \|    \)\(--[a-z0-9-]*\) \{0,1\}\([^ ]*\)  *\(.*\)/\2\t\4/p'
end

# What the option before the cursor may be, where the program lists that
function __piper_values
    set -l words (commandline -opc)
    test (count $words) -ge 3; and string match -q -- '-*' $words[-1]; and piper $words[2] --help 2>/dev/null | awk -v option=$words[-1] '
        { sub(",", "", $1) }
        ($1 == option || $2 == option) && /\|/ { for (i = 1; i <= 3; i++) if ($i ~ /\|/ && $i !~ /^-/) { gsub("\\|", "\n", $i); print $i } }'
end

complete -c piper -n 'test (count (commandline -opc)) -eq 1' -f -a '(__piper_commands) help\t"show a command\'s help" version\t"show the version"'
complete -c piper -n 'string match -q help -- (commandline -opc)[2]' -f -a '(__piper_commands)'
complete -c piper -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__piper_options)'
complete -c piper -n 'count (__piper_values) >/dev/null' -f -a '(__piper_values)'
