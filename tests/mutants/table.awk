# Lines "TABLE FIELD ANSWER NUMBER" of tests/mutants/plans, of any number of runs, to a table of mutants by field and what became of them.
NF == 4 && $4 ~ /^[0-9]+$/ {
    field = $1 "." $2
    if (!(field in all))
        fields[++n] = field
    all[field] += $4
    total += $4
    sum[$3] += $4
    if ($3 == "same" || $3 == "close" || $3 == "harmless" || $3 == "another" || $3 == "open" || $3 == "start")
        by[field, $3] += $4
    else {
        refused[field] += $4
        rule[field, $3] += $4
        if (!($3 in known))
            rules[++m] = $3
        known[$3] = 1
    }
}
END {
    for (i = 1; i <= n; i++) # sorted by name
        for (k = i + 1; k <= n; k++)
            if (fields[k] < fields[i]) {
                t = fields[i]
                fields[i] = fields[k]
                fields[k] = t
            }
    printf "%-28s %9s %9s %8s %8s %8s %7s  %s\n", "field", "mutants", "open", "rules", "harmless", "same", "start", "refused by rule"
    for (i = 1; i <= n; i++) {
        f = fields[i]
        text = ""
        for (k = 1; k <= m; k++)
            if (rule[f, rules[k]])
                text = text " " rules[k] " " rule[f, rules[k]]
        printf "%-28s %9d %9d %8d %8d %8d %7d %s%s%s\n", f, all[f], by[f, "open"], refused[f], by[f, "harmless"], by[f, "same"],
            by[f, "start"], text, by[f, "close"] ? " (close " by[f, "close"] ")" : "", by[f, "another"] ? " ANOTHER " by[f, "another"] : ""
    }
    for (k = 1; k <= m; k++)
        count += sum[rules[k]]
    printf "%-28s %9d %9d %8d %8d %8d %7d  close %d, another %d\n", "all", total, sum["open"], count, sum["harmless"], sum["same"], sum["start"],
        sum["close"], sum["another"]
    printf "\nrefused by rule:"
    for (k = 1; k <= m; k++)
        printf " %s %d%s", rules[k], sum[rules[k]], k < m ? "," : "\n"
}
