#!/bin/sh
# time-limit: 120
# What piper trace --otf2 writes, read back by the tools of OTF2: the recorded run of trace.sh, once as it is, once as if it had been
# traced twice at the same time; and a run of four ranks that was resumed. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
recorded=$src/tests/emulate/recorded
run="$dir/a run's \"name\" ü"
mkdir "$run" twice || exit 99
cp "$recorded/trace.0000.h5" "$run"
cp "$recorded/trace.0000.h5" twice
cp "$recorded/trace.0000.h5" twice/trace.0001.h5
printf 'step,loss,tokens_per_second\n1,4.25,1000\n2,4.125,nan\n' >"$run/metrics.csv"

# refuses STATUS TEXT ARGUMENT...: with one line
refuses()
{
    expected=$1 text=$2
    shift 2
    "$piper" trace "$@" >out 2>&1
    [ $? -eq "$expected" ] && grep -q -e "$text" out && [ "$(wc -l <out)" -eq 1 ]
}

if "$piper" version | grep -q -- '-OTF2'; then
    refuses 64 '^piper: --otf2: this build has no OTF2; install libopen-trace-format2-dev' "$run" --otf2 new && [ ! -e new ]
    result 'a build without OTF2 says what to install'
    echo "1..$n"
    exit 0
fi
command -v otf2-print >/dev/null 2>&1 || { echo "no otf2-print on this machine"; exit 77; }

# read_back ARCHIVE: it is valid; `defs` and `events` hold it, an event a line with the attributes behind it
read_back()
{
    otf2-print --silent -Werror "$1/traces.otf2" >out 2>&1 && otf2-print -G "$1/traces.otf2" >defs 2>out &&
        otf2-print "$1/traces.otf2" 2>out | awk '/^[A-Z_]+ +[0-9]/ { if (line != "") print line; line = $0; next }
            /ADDITIONAL ATTRIBUTES/ { line = line " " $0 } END { print line }' >events
}
# Of each location times do not go back, regions nest, and there are as many events as its definition says; messages arrive after they
# were sent, in order; all members of a communicator take part in its collectives; nothing is open at the end.
consistent()
{
    awk '
        function bad(what) { print what ": " $0; wrong = 1 }
        function after(word,   s) { s = $0; sub(".* " word ": ", "", s); sub("[ ,].*", "", s); return s }
        function comm(   s) { s = $0; sub(".*Communicator: \"[^\"]*\" <", "", s); sub(">.*", "", s); return s }
        FNR == 1 { file++ }
        file == 1 && $1 == "LOCATION" { s = $0; sub(".*# Events: ", "", s); sub(",.*", "", s); expected[$2] = s + 0
            s = $0; sub(".*Group: \"[^\"]*\" <", "", s); sub(">.*", "", s); process[$2] = s }
        file == 1 && $1 == "GROUP" { s = $0; sub(" Member.*", "", s); sub(".*, ", "", s); size[$2] = s + 0 }
        file == 1 && $1 == "COMM" { s = $0; sub(".*Group: \"[^\"]*\" <", "", s); sub(">.*", "", s); members[$2] = size[s] }
        file == 1 { next }
        { n[$2]++; total++; if ($3 + 0 < last[$2] + 0) bad("goes back"); last[$2] = $3 }
        $1 == "ENTER" { s = $0; sub(".*Region: \"[^\"]*\" <", "", s); sub(">.*", "", s); stack[$2, depth[$2]++] = s
            if (depth[$2] > 1) bad("inside of another one") }
        $1 == "LEAVE" { s = $0; sub(".*Region: \"[^\"]*\" <", "", s); sub(">.*", "", s)
            if (stack[$2, --depth[$2]] != s) bad("not the one that was entered") }
        $1 ~ /^MPI_/ && depth[$2] != 1 { bad("outside of a region") }
        $1 == "MPI_SEND" { k = process[$2] " " after("Receiver") " " after("Tag"); sent[k]++; at[k, sent[k]] = $3
            bytes[k, sent[k]] = after("Length") }
        $1 == "MPI_RECV" { k = after("Sender") " " process[$2] " " after("Tag"); got[k]++; received++
            if (!((k, got[k]) in at)) bad("came before it was sent")
            else if (bytes[k, got[k]] != after("Length")) bad("another length") }
        $1 == "MPI_COLLECTIVE_BEGIN" { open[$2]++ }
        $1 == "MPI_COLLECTIVE_END" { open[$2]--; c = comm(); k = process[$2] " " c; took[k]++; ends[c]++; collectives++ }
        END {
            for (l in expected) if (n[l] + 0 != expected[l]) { print "location " l ": " n[l] " of " expected[l]; wrong = 1 }
            for (l in depth) if (depth[l]) { print "location " l " ends in a region"; wrong = 1 }
            for (l in open) if (open[l]) { print "location " l " ends in a collective"; wrong = 1 }
            for (k in sent) if (sent[k] != got[k]) { print "messages " k ": " sent[k] " sent, " got[k] + 0 " received"; wrong = 1 }
            for (k in took) { split(k, p, " ")
                if (took[k] * members[p[2]] != ends[p[2]]) { print "collectives of " k ": " took[k] " of " ends[p[2]]; wrong = 1 } }
            print total " events, " received + 0 " messages, " collectives + 0 " ends of collectives"
            exit wrong || !total }' defs events >out
}

"$piper" trace "$run" --otf2 archive >out 2>&1 && [ ! -s out ] && read_back archive && consistent &&
    grep -q '^583 events, 32 messages, 4 ends of collectives' out
result 'an archive: valid, as many events as it says, messages and collectives with all their ends'
# a slice a region: the same names as often, for the same time
"$piper" trace "$run" --perfetto p.json >out 2>&1 && awk '/"ph":"X"/ && !/"cat":"step"/ { name = $0; sub(/.*"name":"/, "", name); sub(/".*/, "", name)
    sub(/ mb[0-9]*$/, "", name); ns = $0; sub(/.*"dur":/, "", ns); sub(/,.*/, "", ns); count[name]++; sum[name] += ns * 1000 }
    END { for (i in count) printf "%s: %d times, %.0f ns\n", i, count[i], sum[i] }' p.json | sort >perfetto
awk '{ name = $0; sub(/.*Region: "/, "", name); sub(/".*/, "", name) }
    $1 == "ENTER" { begin[$2] = $3 }
    $1 == "LEAVE" && name != "step" { count[name]++; sum[name] += $3 - begin[$2] }
    END { for (i in count) printf "%s: %d times, %.0f ns\n", i, count[i], sum[i] }' events | sort >otf2
[ -s otf2 ] && diff perfetto otf2 >out
result 'the same slices as for Perfetto'
grep -q 'CLOCK_PROPERTIES .*Ticks per Seconds: 1000000000, Global Offset: 0, Length: 5[0-9]*, Date: 20' defs &&
    grep -q "SYSTEM_TREE_NODE  *0  Name: \"a run's \"name\" ü\" .*Class: \"machine\"" defs &&
    grep -q 'SYSTEM_TREE_NODE  *1 .*Class: "node"' defs &&
    [ "$(grep -c '^LOCATION_GROUP .*"rank [01]" .*Type: PROCESS, Parent: "node' defs)" -eq 2 ] &&
    [ "$(grep -c '^LOCATION .*Name: "pp.f0-1" .*Group: "rank [01]"' defs)" -eq 2 ] &&
    grep -q '^COMM .*Name: "group 0: default_stream, 2 ranks"' defs && grep -q '^REGION .*"all-reduce scalars" .*Role: COLL_ALL2ALL, Paradigm: "MPI"' defs
result 'clock, hosts, ranks, streams, communicators'
grep -q '^ENTER .*Region: "BW layers.1" .*("step" <0>; UINT64; 2), ("stage" <3>; UINT32; 1), ("microbatch" <1>; UINT32; 3), ("pass" <2>; STRING; "BW" .*("chunk" <4>; STRING; "layers.1"' events &&
    grep -q '^ENTER .*"send F layers.0.mlp.add" .*("bytes" <5>; UINT64; 1024), ("peer" <6>; UINT32; 1), ("waited" <7>' events
result 'step, stage, microbatch, pass, chunk, bytes, peer'
grep '^METRIC ' events >out
[ "$(grep -c 'loss.*; 4.[12]' out)" -eq 2 ] && [ "$(grep -c 'tokens_per_second.*; 1000' out)" -eq 1 ] &&
    [ "$(grep -c '^ENTER .*Region: "step"' events)" -eq 2 ] && otf2-marker archive/traces.otf2 >out 2>&1 &&
    grep -q '"step 1, loss 4.25, tokens_per_second 1000"' out && grep -q '"step 2, loss 4.125"' out
result 'steps: regions, markers, loss and speed'

"$piper" trace "$run" --ranks 1 --steps 2 --otf2 one >out 2>&1 && read_back one && consistent && grep -q ' 0 messages' out &&
    ! grep -q '"rank 0"' defs && grep -q '"rank 1"' defs && [ "$(grep -c 'Region: "step"' events)" -eq 2 ]
result 'one step of one rank: no message lacks its other end'
mkdir "second one" && "$piper" trace twice --otf2 "second one/ü/" >out 2>&1 && read_back "second one/ü" && consistent &&
    grep -q '^LOCATION .*Name: "default_stream (2)"' defs
result 'events of a stream at the same time are on tracks of their own'

# ---- a run of four ranks, in two launches; its two tensor parallel groups have one number, and so have its two data parallel ones
layout='{"op":"layout","pp":1,"dp":2,"tp":2,"zero":1}'
echo "[$layout,{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" >dp2tp2.json
build job llama dp2tp2 train.steps=4 'train.trace_steps=[2,4]' train.checkpoint_every=3
train 4 job real --steps 3 && train 4 job real && [ -e real/trace.0001.h5 ] &&
    "$piper" trace real --otf2 four >out 2>&1 && read_back four && consistent && ! grep -q ' 0 ends of collectives' out
result 'a run of four ranks, resumed: valid and consistent'
awk '/Operation: ALLREDUCE/ { s = $0; sub(/.*Sent: /, "", s); r = $0; sub(/.*Received: /, "", r); sub(/,.*/, "", s); reduces++
        if (s + 0 == 0 || s + 0 != r + 0) { print "not the bytes of a member: " $0; wrong = 1; exit } }
    /Operation: REDUCE_SCATTER_BLOCK/ || /Operation: ALLGATHER/ { s = $0; sub(/.*Sent: /, "", s); r = $0; sub(/.*Received: /, "", r)
    sub(/,.*/, "", s); if (/ALLGATHER/) { gathers++; x = s; s = r; r = x } else scatters++
    n = $0; sub(/ ranks".*/, "", n); sub(/.*, /, "", n)
    if (n < 2 || s + 0 != n * r) { print "not those of all members: " $0; wrong = 1; exit } }
    END { print gathers + 0 " gathers, " scatters + 0 " scatters, " reduces + 0 " reductions"; exit wrong || !gathers || !scatters || !reduces }' events >out
result 'bytes of gathers and scatters are those of all members, of reductions those of one'
awk '/^ENTER .*Region: "step"/ { begin[++n] = $3; at[n] = /UINT64; 4\)/ ? 4 : 2 } /^LEAVE .*Region: "step"/ { end[n] = $3 }
    END { print begin[1], end[1], begin[2], end[2]; exit !(n == 2 && at[1] == 2 && at[2] == 4 && begin[2] >= end[1]) }' events >out &&
    [ "$(grep -c '^COMM .*tp, 2 ranks' defs)" -eq 4 ] && [ "$(grep -c '^GROUP .*tp, 2 ranks.* 2 Members' defs)" -eq 4 ]
result 'the second launch begins behind the first, with communicators of its own'

# ---- what is there stays
find archive -type f -exec cksum {} + >before
refuses 64 '^piper: archive: exists' "$run" --otf2 archive/ && find archive -type f -exec cksum {} + | diff before - >out
result 'an archive of that name is left alone'
refuses 74 'cannot be created: No such file or directory' "$run" --otf2 none/archive
result 'nowhere to write to'
(trap '' XFSZ && ulimit -f 2 && "$piper" trace "$run" --otf2 full >out 2>&1)
[ $? -eq 74 ] && grep -q '^piper: full: the archive cannot be written' out && [ "$(wc -l <out)" -eq 1 ] && [ -z "$(find . -name 'full*')" ]
result 'a disk that is full: one sentence, nothing is left behind'
echo "1..$n"
