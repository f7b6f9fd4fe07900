/* How many CPUs a control group leaves a process: containers and batch systems limit time, not only the CPUs that may be used. */
#ifndef PIPER_QUOTA_H
#define PIPER_QUOTA_H

enum { QUOTA_GROUP_BYTES = 512 };

struct quota {
    double cpus;                   /* CPU seconds a second; INFINITY: no limit */
    char group[QUOTA_GROUP_BYTES]; /* the folder of the group that sets it; "": none */
};

/* The least of the process's own group and of all above it that can be seen: cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us). root: in
 * front of /proc and of what is mounted, "" but in tests. What cannot be read limits nothing. */
void quota_read(const char *root, struct quota *q);

#endif
