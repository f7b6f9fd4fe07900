# bash completion for piper. Commands and options are those that the program lists itself.
# shellcheck shell=bash

# Lines of a command's options: "-o --output FILE", "--lanes merged|all|none"
_piper_options()
{
    piper "$1" --help 2>/dev/null | sed -n 's/^  \(-[a-z], \|    \)\(--[a-z0-9-]*\) \{0,1\}\([^ ]*\).*/\1 \2 \3/p' | tr -d ,
}

_piper()
{
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="$(piper --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p') help version --help --version"
    elif [[ $current == -* ]]; then
        words="$(_piper_options "$command") --help"
    elif [[ $before == -* ]]; then
        words=$(_piper_options "$command" | awk -v option="$before" '($1 == option || $2 == option) && $NF ~ /\|/ { gsub("\\|", " ", $NF); print $NF }')
    elif [ "$command" = help ]; then
        words=$(piper --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
    fi
    # what options need is no option itself: names of files and numbers
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current" | grep -E "^(-|[a-z0-9_]+\$)")
    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

complete -o filenames -F _piper piper
