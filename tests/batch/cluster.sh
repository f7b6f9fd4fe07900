# shellcheck shell=sh
# Read by the tests beside it: a private Slurm cluster of two nodes, n1 and n2, on this machine. Its daemons run as who
# runs the test, on the loopback interface, with a munge of their own; everything they write is in $cluster. Where the
# kernel allows it, each node has its own host name and /dev/shm, as on two machines.
#
# cluster_up                   returns when both nodes are idle; exits with 77 and a reason where Slurm is not installed.
#                              The daemons wait long for each other, as one of them may not run for 10 s on a busy
#                              machine: a launch that is late by then would come back into the queue, or drain its node.
#                              A test that waits for that sets, in seconds, cluster_expire (of a job's credential) and
#                              cluster_silence (of a node that is lost)
# cluster_kill_node NODE       kill -9 of all that runs there, as if the power went
# cluster_start_node NODE
# cluster_down                 ends everything; to be called at every exit, first of all. It shows what the daemons wrote
#                              last where the test did not end well

PATH=$PATH:/usr/sbin:/sbin
export PATH

# Processes with one setting or two in their environment: what this cluster has started, or a node of it. A slurmstepd
# overwrites its own, so it is found as the parent of one.
processes_with()
{
    found=$(grep -lzxF -e "$1" /proc/[0-9]*/environ 2>/dev/null)
    # shellcheck disable=SC2086 # names of files
    [ $# -eq 1 ] || found=$(grep -lzxF -e "$2" $found /dev/null 2>/dev/null)
    found=$(echo "$found" | cut -d/ -f3)
    for process in $found; do
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status" 2>/dev/null)
        ! grep -qx slurmstepd "/proc/$parent/comm" 2>/dev/null || echo "$parent"
    done | sort -u
    echo "$found"
}

configure_cluster() # PORT
{
    me=$(id -un)
    cat >"$cluster/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits until its old credential has expired
AuthInfo=socket=$cluster/munge/socket,cred_expire=${cluster_expire:-30}
SlurmctldPort=$1
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmctldLogFile=$cluster/slurmctld.log
StateSaveLocation=$cluster/state
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmdLogFile=$cluster/slurmd.%n.log
SlurmdSpoolDir=$cluster/%n/spool
SlurmdParameters=config_overrides
TmpFS=$cluster/%n/tmp
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=30
SlurmctldTimeout=30
SlurmdTimeout=${cluster_silence:-300}
MessageTimeout=100
TCPTimeout=100
BatchStartTimeout=100
PropagateResourceLimits=NONE
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(($1 + 1)) CPUs=4 CoresPerSocket=4 RealMemory=500
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(($1 + 2)) CPUs=4 CoresPerSocket=4 RealMemory=500
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

cluster_start_node()
{
    rm -rf "${cluster:?}/$1"
    mkdir -p "$cluster/$1/spool" "$cluster/$1/tmp"
    if unshare --mount --uts true 2>/dev/null; then
        cat >"$cluster/$1/enter" <<EOS
hostname $1 && mount -t tmpfs none /dev/shm && mount --bind "$cluster/hosts" /etc/hosts && exec slurmd -D -N $1
EOS
        set -- "$1" unshare --mount --uts --propagation private sh "$cluster/$1/enter"
    else
        set -- "$1" slurmd -D -N "$1"
    fi
    node=$1
    shift
    PIPER_TEST_CLUSTER=$cluster PIPER_TEST_NODE=$cluster/$node "$@" >>"$cluster/slurmd.out" 2>&1 &
}

start_daemons()
{
    rm -rf "$cluster/state" "$cluster/munge"
    mkdir -m 755 "$cluster/state" "$cluster/munge"
    (umask 077 && head -c 128 /dev/urandom >"$cluster/munge/key")
    PIPER_TEST_CLUSTER=$cluster munged --force --foreground --key-file="$cluster/munge/key" --num-threads=2 \
        --socket="$cluster/munge/socket" --pid-file="$cluster/munge/pid" --log-file="$cluster/munge/log" \
        --seed-file="$cluster/munge/seed" >"$cluster/munged.out" 2>&1 &
    wait_until 100 [ -S "$cluster/munge/socket" ]
    PIPER_TEST_CLUSTER=$cluster slurmctld -D -c -i >"$cluster/slurmctld.out" 2>&1 &
    cluster_start_node n1
    cluster_start_node n2
    wait_until 200 both_idle
}
both_idle()
{
    [ "$(sinfo -h -N -o %T 2>/dev/null | grep -cx idle)" -eq 2 ]
}

# wait_until TENTHS COMMAND...: the command becomes true in that time
wait_until()
{
    tries=$(($1 * ${TEST_TIME_SCALE:-1}))
    shift
    until "$@"; do
        [ $tries -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 0.1
    done
}

cluster_up()
{
    for program in munged slurmctld slurmd sbatch squeue scontrol; do
        command -v $program >/dev/null || {
            echo "no $program on this machine: packages slurm-wlm, slurm-wlm-basic-plugins and munge"
            exit 77
        }
    done
    cluster=${dir:?}/cluster
    mkdir -m 755 "$cluster"
    chmod 755 "$dir" # munge wants that
    { cat /etc/hosts && echo 127.0.0.1 n1 n2; } >"$cluster/hosts"
    # requests to the scheduler go to this cluster, Open MPI's messages over the loopback interface
    export SLURM_CONF="$cluster/slurm.conf" OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo \
        OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
    unset SLURM_JOB_ID PBS_JOBID
    for try in 1 2 3; do # another program may have the ports
        configure_cluster $((16000 + ($$ + 1000 * try) % 4000 * 4))
        start_daemons && return
        kill_cluster
    done
    cluster_says
    echo 'Bail out! the private Slurm cluster did not come up'
    exit 1
}

cluster_says()
{
    cat "${cluster-}"/*.log 2>/dev/null | sort | tail -n 60 | sed 's/^/# /'
}
kill_cluster()
{
    while remaining=$(processes_with "PIPER_TEST_CLUSTER=$cluster") && [ -n "$remaining" ]; do
        # shellcheck disable=SC2086 # process ids
        kill -9 $remaining 2>/dev/null
        sleep 0.1
    done
}
cluster_down()
{
    if [ $? -ne 0 ] || [ "${failed:?}" -ne 0 ]; then
        cluster_says
    fi
    [ -z "${cluster-}" ] || kill_cluster
}

# The daemons first, so that they have nothing to say about the rest.
cluster_kill_node()
{
    # shellcheck disable=SC2046 # process ids
    kill -9 $(cat "$cluster/slurmd.$1.pid") $(processes_with "SLURM_CONF=$SLURM_CONF" "SLURMD_NODENAME=$1") \
        $(processes_with "PIPER_TEST_NODE=$cluster/$1") 2>/dev/null
}

# ---- jobs

# submit SCRIPT [ARGUMENT...]: sets jobid; $options are sbatch's. A job inherits this environment.
submit()
{
    # shellcheck disable=SC2034,SC2086 # for the caller; options are words
    jobid=$(PIPER_TEST_CLUSTER=$cluster sbatch --parsable --output="$dir/%x-%j.txt" ${options-} "$@" 2>>out)
}
job_is() # ID STATES, as PD,R
{
    [ -n "$(squeue -h -j "$1" -t "$2" -o %T 2>/dev/null)" ]
}
# A scheduler that does not answer at the moment says nothing of the job.
job_is_over()
{
    states=$(squeue -h -j "$1" -o %T 2>/dev/null) && [ -z "$states" ]
}
# finish ID [SECONDS]: the job has left the queue
finish()
{
    wait_until $((10 * ${2:-60})) job_is_over "$1" || { squeue >>out; return 1; }
}
