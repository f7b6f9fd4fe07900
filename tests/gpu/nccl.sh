#!/bin/sh
# time-limit: 1500
# NCCL on a real device: ranks that share one device over sockets, each pretending to be a machine of its own, train as the CPU
# does; a killed rank ends the job; how long 64 communicators take. Where NCCL refuses to share a device one rank opens it,
# several go through host memory, and the test says so. Prints TAP; 77 without a device.
LAUNCH_EACH=1 # a device of a process of its own
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
if ! "$piper" info | grep -q 'cuda  *available'; then
    "$piper" info | sed -n 's/.*cuda  *//p'
    exit 77
fi
PIPER_SHARE_DEVICES=1 NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1
export PIPER_SHARE_DEVICES NCCL_SOCKET_IFNAME NCCL_IB_DISABLE
real=$piper
# NCCL takes ranks of one host and one device for a mistake
cat >piper-host <<SCRIPT
#!/bin/sh
NCCL_HOSTID=rank-\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}
export NCCL_HOSTID
exec "\$REAL" "\$@"
SCRIPT
chmod +x piper-host
REAL=$real
export REAL

sed 's/"capacity_factor": 1.25, //' moe.json >dropless.json
layouts() # NAME PP DP EP ZERO PLACEMENT SCHEDULE
{
    echo "[{\"op\":\"layout\",\"pp\":$2,\"dp\":$3,\"ep\":$4,\"zero\":$5,\"placement\":\"$6\"},
        {\"op\":\"schedule\",\"kind\":\"$7\",\"microbatches\":4}]" >"$1.json"
}
layouts r2-1f1b 2 1 1 0 standard 1f1b
layouts r2-zbv 2 1 1 0 v zb-v
layouts r2-zero3 1 2 1 3 standard gpipe
layouts r2-ep2 1 2 2 1 standard gpipe
layouts r4-gpipe 2 2 1 1 standard gpipe
layouts r4-1f1b 2 2 1 2 standard 1f1b
layouts r4-zbh1 2 2 1 3 standard zb-h1
layouts r4-interleaved 2 2 1 0 interleaved interleaved
layouts r4-dualpipe 2 2 1 1 two-way dualpipe
layouts r4-dualpipev 2 2 2 2 v dualpipev
layouts r4-ep4 1 4 4 3 standard gpipe

# loss NAME RUN RUN LIMIT: the curves lie within a relative deviation
loss()
{
    column "$2" loss >a && column "$3" loss >b && near a b "$4"
    result "$1:" tail -n 1 out
}
build first llama r2-1f1b
comm=nccl
piper=$dir/piper-host
if ! train 2 first first-cuda --device cuda --comm nccl --steps 1; then
    comm=mpi
    echo "# NCCL does not let ranks share this device: $(grep -m 1 -i nccl out)"
    build alone llama one
    train 1 alone alone-nccl --device cuda --comm nccl && train 1 alone alone-cpu --device cpu
    result 'one rank with NCCL trains'
    loss 'one rank with NCCL' alone-cpu alone-nccl 1e-3
fi
for strategy in r2-* r4-*; do
    strategy=${strategy%.json}
    case $strategy in
    *ep2 | *ep4 | *dualpipev) model=dropless ;;
    *dualpipe) model=moe ;;
    *) model=llama ;;
    esac
    ranks=${strategy#r} ranks=${ranks%%-*}
    build "$strategy" "$model" "$strategy"
    train "$ranks" "$strategy" "$strategy-cpu" --device cpu &&
        train "$ranks" "$strategy" "$strategy-cuda" --device cuda --comm $comm &&
        grep -q "$comm" "$strategy-cuda/log.txt"
    result "$strategy: $ranks ranks train with $comm"
    loss "$strategy: as on the CPU" "$strategy-cpu" "$strategy-cuda" 1e-3
done

# a rank that is killed
build killed llama r4-1f1b train.steps=100000
launch 4 killed killed-run --device cuda --comm $comm
await 5 killed-run && begin=$(date +%s) && kill -9 "$(cat pid.2)"
wait "$launched"
end=$(date +%s)
echo "ended $((end - begin)) s after rank 2 was killed" >>out
[ $((end - begin)) -lt 10 ]
result 'a killed rank ends the job:' tail -n 1 out

if [ $comm = nccl ]; then
    start=${top_builddir:-.}/tests/nccl/start
    case $start in /*) ;; *) start=$OLDPWD/$start ;; esac
    REAL=$start
    sh "$src/tests/run-mpi" -t 300 "$dir/piper-host" 4 64 >out 2>&1
    result '64 communicators:' tail -n 1 out
fi
echo "1..$n"
