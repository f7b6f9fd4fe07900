/* Two stand-ins in one program, for the job scripts: as `piper`, a rank that needs SAVE_SECONDS (3) for its checkpoint; under another
 * name a launcher, `launcher KIND PROGRAM [ARGUMENT...]`, which starts the program once and does with signals what launchers of
 * that kind do. openmpi4 (4.1.4), openmpi5 (5.0.11), hydra (MPICH 4.0.2) and srun (22.05) were measured; pals does what its
 * manual says. RANK_DIES=1: the rank is lost a second after its start. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got; /* the first signal, or 0 */

static void on_signal(int number)
{
    if (!got)
        got = number;
}

static void listen_to(const int *numbers, int n)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t all;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < n; i++)
        sigaction(numbers[i], &action, NULL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
}

static void nap(int ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static int rank(int argc, char **argv)
{
    static const int wishes[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
    const char *seconds = getenv("SAVE_SECONDS"), *dies = getenv("RANK_DIES"), *run = ".";
    char path[4096];
    listen_to(wishes, 4);
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            run = argv[i + 1];
    snprintf(path, sizeof path, "%s/running", run);
    fclose(fopen(path, "w"));
    for (int tenths = 0; !got; tenths++) {
        nap(100);
        if (dies && tenths == 10)
            kill(getpid(), SIGKILL);
    }
    nap(1000 * (seconds ? atoi(seconds) : 3));
    snprintf(path, sizeof path, "%s/checkpoints", run);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/checkpoints/step-000007.h5", run);
    fclose(fopen(path, "w"));
    return 75;
}

/* What a TERM, INT or HUP to the launcher does to its rank. */
enum answer { PASSES_ON, KILLS, KILLS_LATE };

static int wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void listen_for(pid_t child, enum answer answer)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
        int number = got;
        got = 0;
        if (number == SIGUSR1 || number == SIGUSR2 || answer == PASSES_ON) {
            kill(child, number);
        } else {
            if (answer == KILLS_LATE) {
                nap(1000);
                kill(child, SIGTERM);
                nap(1000);
            }
            kill(child, SIGKILL);
            wait_for(child);
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum answer answer;
        int unblocks; /* the mask of its ranks */
    } kinds[] = {
        { "openmpi4", KILLS_LATE, 1 }, { "openmpi5", KILLS, 1 }, { "hydra", PASSES_ON, 0 },
        { "pals", PASSES_ON, 0 },      { "srun", PASSES_ON, 1 },
    };
    static const int heard[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    const char *name = strrchr(argv[0], '/');
    if (strcmp(name ? name + 1 : argv[0], "piper") == 0)
        return rank(argc, argv);
    for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(argv[1], kinds[i].name) != 0)
            continue;
        struct sigaction action = { .sa_handler = on_signal };
        sigset_t all;
        sigfillset(&all);
        sigemptyset(&action.sa_mask);
        for (int k = 0; k < 5; k++)
            sigaction(heard[k], &action, NULL);
        pid_t child = fork();
        if (child == 0) {
            for (int k = 0; k < 5; k++)
                signal(heard[k], SIG_DFL);
            if (kinds[i].unblocks)
                sigprocmask(SIG_UNBLOCK, &all, NULL);
            execv(argv[2], argv + 2);
            _exit(127);
        }
        listen_for(child, kinds[i].answer);
        return wait_for(child);
    }
    fprintf(stderr, "usage: launcher openmpi4|openmpi5|hydra|pals|srun PROGRAM [ARGUMENT...]\n");
    return 2;
}
