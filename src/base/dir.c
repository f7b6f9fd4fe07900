#include "base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- words ---------------------------------------------------------------------------------------------------- */

static const char *kind_of(mode_t mode)
{
    static const struct {
        mode_t type;
        const char *word;
    } kinds[] = { { S_IFLNK, "a symbolic link, which is not followed in a run directory" },
                  { S_IFDIR, "a folder" },
                  { S_IFIFO, "a fifo" },
                  { S_IFSOCK, "a socket" },
                  { S_IFREG, "a regular file" } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((mode & S_IFMT) == kinds[i].type)
            return kinds[i].word;
    return "a device";
}

/* "RUNDIR/NAME"; a path of the user's as it is. */
static const char *where(const struct dir *in, const char *name, char text[PATH_MAX])
{
    if (!in)
        return name;
    snprintf(text, PATH_MAX, "%s/%s", in->path, name);
    return text;
}

static enum status refuse(const struct dir *in, const char *name, enum status st, mode_t mode, const char *what,
                          struct err *e)
{
    char text[PATH_MAX];
    return err_set(e, st, where(in, name, text), "%s: it is %s, not a regular file", what, kind_of(mode));
}

static enum status fail(const struct dir *in, const char *name, enum status st, const char *what, struct err *e)
{
    char text[PATH_MAX];
    return err_set(e, st, where(in, name, text), "%s: %s", what, strerror(errno));
}

void dir_random_word(char word[17])
{
    uint64_t x = 0;
    CHECK(getrandom(&x, sizeof x, 0) == (ssize_t)sizeof x); /* so few bytes come whole */
    snprintf(word, 17, "%016llx", (unsigned long long)x);
}

/* ---- folders -------------------------------------------------------------------------------------------------- */

enum { FOLDER = O_RDONLY | O_DIRECTORY | O_CLOEXEC };
static const char no_mount[] = "is a dangling symbolic link: is its file system mounted on this node?";

void dir_guard(const struct dir *d)
{
    if (d && d->guard)
        d->guard(d->arg);
}

static int at(const struct dir *in)
{
    return in ? in->fd : AT_FDCWD;
}

bool dir_is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool dir_has_path(const char *folder, const char *name, char path[DIR_PATH])
{
    const int n = snprintf(path, DIR_PATH, "%s/%s", folder, name);
    return n > 0 && n < DIR_PATH && access(path, F_OK) == 0;
}

enum status dir_open(const char *path, struct dir *d, struct err *e)
{
    struct stat s;
    *d = (struct dir){ .fd = open(path, FOLDER) };
    if (d->fd < 0 && errno == ENOTDIR && stat(path, &s) == 0)
        return err_set(e, ST_MISSING, path, "is %s, expected a run directory", kind_of(s.st_mode));
    if (d->fd < 0 && errno == ENOENT && lstat(path, &s) == 0)
        return err_set(e, ST_IO, path, "%s", no_mount);
    if (d->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(e, ST_MISSING, path, "no such directory, expected a run directory");
    if (d->fd < 0)
        return err_set(e, ST_IO, path, "the directory cannot be opened: %s", strerror(errno));
    d->path = mem_strdup(path);
    return ST_OK;
}

/* Through a link that may be followed. The link itself is open meanwhile, and links do not change: what is judged is what is
 * followed. */
static int follow(const struct dir *in, const char *name, bool *foreign)
{
    char to[PATH_MAX];
    struct stat link, folder;
    int fd = -1, path = openat(in->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path < 0)
        return -1;
    ssize_t n = fstat(path, &link) == 0 ? readlinkat(path, "", to, sizeof to - 1) : -1;
    if (n > 0) {
        to[n] = '\0';
        fd = openat(in->fd, to, FOLDER);
    }
    *foreign = fd >= 0 && fstat(fd, &folder) == 0 && link.st_uid != 0 && link.st_uid != geteuid() &&
               link.st_uid != folder.st_uid;
    if (*foreign) {
        close(fd);
        fd = -1;
    }
    int why = errno;
    close(path);
    errno = why;
    return fd;
}

static bool sync_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL; /* a file system that cannot sync folders */
}

/* Its name is durable before anything is in it. */
static int make_folder(const struct dir *in, const char *name)
{
    dir_guard(in);
    bool made = mkdirat(in->fd, name, 0777) == 0;
    if ((!made && errno != EEXIST) || (made && !sync_folder(in->fd)))
        return -1;
    return openat(in->fd, name, FOLDER | O_NOFOLLOW);
}

enum status dir_enter(const struct dir *in, const char *name, int flags, struct dir *d, struct err *e)
{
    char text[PATH_MAX];
    struct stat s;
    bool foreign = false, there = fstatat(in->fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
    bool link = there && S_ISLNK(s.st_mode);
    *d = (struct dir){ .fd = -1, .guard = in->guard, .arg = in->arg };
    if (link && flags & DIR_LINK)
        d->fd = follow(in, name, &foreign);
    else if (!link)
        d->fd = openat(in->fd, name, FOLDER | O_NOFOLLOW);
    if (d->fd < 0 && !there && errno == ENOENT && flags & DIR_MAKE)
        d->fd = make_folder(in, name);
    int why = errno;
    where(in, name, text);
    if (foreign)
        return err_set(e, ST_IO, text,
                       "is a symbolic link of another user (%u) into a third user's directory, which is not followed",
                       (unsigned)s.st_uid);
    if (d->fd < 0 && link && flags & DIR_LINK && why == ENOENT)
        return err_set(e, ST_IO, text, "%s", no_mount);
    if (d->fd < 0 && link && flags & DIR_LINK)
        return err_set(e, ST_IO, text, "is a symbolic link to a directory that cannot be opened: %s", strerror(why));
    if (d->fd < 0 && there && !S_ISDIR(s.st_mode))
        return err_set(e, ST_IO, text, "is %s, expected a directory", kind_of(s.st_mode));
    if (d->fd < 0 && !(flags & DIR_MAKE) && why == ENOENT)
        return err_set(e, ST_MISSING, text, "no such directory");
    if (d->fd < 0)
        return err_set(e, ST_IO, text, "cannot be %s: %s", flags & DIR_MAKE ? "made" : "opened", strerror(why));
    d->path = mem_strdup(text);
    return ST_OK;
}

enum status dir_of_path(const char *path, struct dir *in, char name[DIR_NAME], struct err *e)
{
    enum { LINKS = 40 };
    char at_path[PATH_MAX], to[PATH_MAX];
    *in = (struct dir){ .fd = -1 };
    if (snprintf(at_path, sizeof at_path, "%s", path) >= (int)sizeof at_path)
        return err_set(e, ST_IO, path, "cannot be created: %s", strerror(ENAMETOOLONG));
    for (int links = 0; links < LINKS; links++) {
        char *slash = strrchr(at_path, '/'), *base = slash ? slash + 1 : at_path;
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%.*s", slash ? slash == at_path ? 1 : (int)(slash - at_path) : 1,
                 slash ? at_path : ".");
        if (!*base || strlen(base) >= DIR_NAME - 24)
            return err_set(e, ST_IO, path, "cannot be created: %s", strerror(*base ? ENAMETOOLONG : EISDIR));
        *in = (struct dir){ .fd = open(folder, FOLDER) };
        if (in->fd < 0)
            return err_set(e, ST_IO, path, "cannot be created: %s", strerror(errno));
        in->path = mem_strdup(folder);
        strcpy(name, base);
        ssize_t n = readlinkat(in->fd, base, to, sizeof to - 1);
        if (n < 0)
            return ST_OK; /* no link, or nothing yet */
        to[n] = '\0';
        dir_close(in);
        if (*to == '/')
            strcpy(at_path, to);
        else if (snprintf(at_path, sizeof at_path, "%s/%s", folder, to) >= (int)sizeof at_path)
            break;
    }
    return err_set(e, ST_IO, path, "cannot be created: %s", strerror(ELOOP));
}

enum status dir_copy(const struct dir *from, struct dir *d, struct err *e)
{
    *d = (struct dir){ fcntl(from->fd, F_DUPFD_CLOEXEC, 0), NULL, from->guard, from->arg };
    if (d->fd < 0)
        return err_set(e, ST_IO, from->path, "the directory cannot be opened: %s", strerror(errno));
    d->path = mem_strdup(from->path);
    return ST_OK;
}

void dir_close(struct dir *d)
{
    if (d->path)
        close(d->fd);
    mem_free(d->path);
    *d = (struct dir){ .fd = -1 };
}

/* A link, or a current folder, that leads nowhere: what is made by that path is made nowhere. */
static bool leads_nowhere(const char *path)
{
    char own[PATH_MAX];
    struct stat s;
    size_t n = strlen(path);
    if (n >= sizeof own || stat(path, &s) == 0 || errno != ENOENT)
        return false;
    memcpy(own, path, n + 1);
    while (n > 1 && own[n - 1] == '/')
        own[--n] = '\0';
    return lstat(own, &s) == 0 || (*own != '/' && !getcwd(own, sizeof own) && errno == ENOENT);
}

void dir_path_again(const struct dir *d, char path[DIR_PATH])
{
    static const char removed[] = " (deleted)"; /* so the system says it */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", d->fd);
    ssize_t n = leads_nowhere(d->path) ? readlink(link, path, DIR_PATH - 1) : 0, tail = (ssize_t)sizeof removed - 1;
    if (n > tail && memcmp(path + n - tail, removed, (size_t)tail) == 0)
        path[n - tail] = '\0';
    else
        snprintf(path, DIR_PATH, "%s", d->path);
}

enum status dir_reopen(struct dir *d, struct err *e)
{
    char path[DIR_PATH];
    dir_path_again(d, path);
    int fd = open(path, FOLDER);
    bool good = fd >= 0 && dup3(fd, d->fd, O_CLOEXEC) >= 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    return good ? ST_OK : err_set(e, ST_IO, d->path, "the directory cannot be opened: %s", strerror(why));
}

bool dir_is_removed(const struct dir *d)
{
    struct stat s;
    return fstat(d->fd, &s) != 0 ? errno == ESTALE : s.st_nlink == 0;
}

static bool leads_to(const char *path, const struct stat *s)
{
    struct stat found;
    return stat(path, &found) == 0 && found.st_dev == s->st_dev && found.st_ino == s->st_ino;
}

enum dir_place dir_look(const struct dir *d, char now[DIR_PATH])
{
    char link[64];
    struct stat mine, there;
    *now = '\0';
    if (dir_is_removed(d))
        return DIR_REMOVED;
    if (fstat(d->fd, &mine) != 0 || (stat(d->path, &there) != 0 && errno != ENOENT && errno != ENOTDIR))
        return DIR_UNKNOWN;
    if (leads_to(d->path, &mine))
        return DIR_HERE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", d->fd);
    ssize_t n = readlink(link, now, DIR_PATH - 1);
    now[n > 0 ? n : 0] = '\0';
    if (!leads_to(now, &mine)) /* renamed on another host */
        *now = '\0';
    return DIR_MOVED;
}

enum status dir_list(const struct dir *d, struct dir_names *names, struct err *e)
{
    *names = (struct dir_names){ 0 };
    int fd = openat(d->fd, ".", FOLDER); /* with a place of its own in the list */
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    if (!stream) {
        enum status st = err_set(e, ST_IO, d->path, "cannot be listed: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return st;
    }
    errno = 0;
    while ((entry = readdir(stream))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            vec_add(names, mem_strdup(entry->d_name));
        errno = 0;
    }
    enum status st = errno ? err_set(e, ST_IO, d->path, "cannot be listed: %s", strerror(errno)) : ST_OK;
    closedir(stream);
    if (st != ST_OK)
        dir_names_release(names);
    return st;
}

void dir_names_release(struct dir_names *names)
{
    for (uint32_t i = 0; i < names->n; i++)
        mem_free(names->at[i]);
    vec_free(names);
}

/* ---- files that are there ------------------------------------------------------------------------------------- */

bool dir_has(const struct dir *d, const char *name)
{
    struct stat s;
    return fstatat(d->fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
}

enum status dir_find(const struct dir *d, const char *name, bool *there, struct err *e)
{
    struct stat s;
    *there = fstatat(d->fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
    return *there || errno == ENOENT ? ST_OK : fail(d, name, ST_IO, "cannot be looked for", e);
}

bool dir_leads_to(const struct dir *d, const char *name, int fd)
{
    struct stat named, mine;
    if (fstat(fd, &mine) != 0)
        return true;
    if (fstatat(d->fd, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
        return errno != ENOENT;
    return named.st_dev == mine.st_dev && named.st_ino == mine.st_ino;
}

bool dir_identify(const struct dir *d, const char *name, struct dir_identity *id)
{
    struct stat s;
    if (fstatat(d->fd, name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(s.st_mode))
        return false;
    *id = (struct dir_identity){ s.st_dev, s.st_ino, (uint64_t)s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec };
    return true;
}

/* Reasons that another name, or the owner, can cure; all others are the system's or pass. */
static enum status why_not_opened(int why)
{
    static const int missing[] = { ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG, ENXIO };
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        if (why == missing[i])
            return ST_MISSING;
    return ST_IO;
}

/* Looks before it opens, since opening some devices does something, and again afterwards. */
static enum status open_there(const struct dir *in, const char *name, int flags, struct stat *s, int *fd, struct err *e)
{
    bool read = (flags & O_ACCMODE) == O_RDONLY;
    const char *what = read ? "cannot be read" : "cannot be written";
    enum status refused = read ? ST_MISSING : ST_IO;
    *fd = -1;
    if (!read)
        dir_guard(in);
    if (fstatat(at(in), name, s, in ? AT_SYMLINK_NOFOLLOW : 0) == 0 && !S_ISREG(s->st_mode))
        return refuse(in, name, refused, s->st_mode, what, e);
    int f = openat(at(in), name, flags | O_NONBLOCK | O_CLOEXEC | (in ? O_NOFOLLOW : 0));
    if (f < 0)
        return fail(in, name, read ? why_not_opened(errno) : errno == ENOENT ? ST_MISSING : ST_IO, what, e);
    if (fstat(f, s) != 0 || !S_ISREG(s->st_mode)) {
        close(f);
        return refuse(in, name, refused, s->st_mode, what, e);
    }
    *fd = f;
    return ST_OK;
}

enum status dir_read(const struct dir *in, const char *name, int *fd, uint64_t *bytes, struct err *e)
{
    struct stat s;
    TRY(open_there(in, name, O_RDONLY, &s, fd, e));
    *bytes = (uint64_t)s.st_size;
    return ST_OK;
}

enum status dir_change(const struct dir *in, const char *name, int *fd, struct err *e)
{
    struct stat s;
    return open_there(in, name, O_RDWR, &s, fd, e);
}

/* What is open as `from`, as a file of this name. */
static enum status copy_as(const struct dir *in, const char *name, int from, bool whole, struct err *e)
{
    struct dir_new to;
    char part[1 << 16];
    off_t done = 0;
    ssize_t n = 0;
    TRY(dir_new_begin(in, name, &to, e));
    enum status st = ST_OK;
    for (; st == ST_OK && (n = pread(from, part, sizeof part, done)) > 0; done += n)
        if (pwrite(to.fd, part, (size_t)n, done) != n)
            st = err_set(e, ST_IO, to.path, "cannot be written: %s", strerror(errno));
    if (n < 0 && whole)
        st = err_set(e, ST_IO, to.path, "cannot be read: %s", strerror(errno));
    if (st == ST_OK)
        st = dir_new_publish(&to, e);
    dir_new_drop(&to);
    return st;
}

enum status dir_restore(const struct dir *in, const char *name, int from, char aside[DIR_NAME], struct err *e)
{
    bool there;
    *aside = '\0';
    TRY(dir_find(in, name, &there, e));
    if (there)
        TRY(dir_keep_aside(in, name, "replaced", aside, e));
    return copy_as(in, name, from, false, e);
}

enum status dir_append(const struct dir *in, const char *name, bool make, int *fd, struct err *e)
{
    struct stat s;
    struct err missing = { 0 };
    enum status st = open_there(in, name, O_RDWR | O_APPEND, &s, fd, &missing);
    if (st == ST_MISSING && make) {
        *fd = openat(in->fd, name, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        return *fd >= 0 ? ST_OK : fail(in, name, ST_IO, "cannot be written", e);
    }
    if (st != ST_OK)
        return err_set(e, st, NULL, "%s", missing.text);
    if (!make || s.st_nlink == 1)
        return ST_OK;
    int shared = *fd; /* another name may lead to it from a folder that is not of this run */
    st = copy_as(in, name, shared, true, e);
    close(shared);
    return st == ST_OK ? open_there(in, name, O_RDWR | O_APPEND, &s, fd, e) : st;
}

/* ---- files that are made, renamed, removed -------------------------------------------------------------------- */

enum status dir_make(const struct dir *in, const char *name, int *fd, struct err *e)
{
    dir_guard(in);
    *fd = openat(at(in), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return *fd >= 0 ? ST_OK : fail(in, name, ST_IO, "cannot be created", e);
}

enum status dir_replace(const struct dir *in, const char *name, int *fd, struct err *e)
{
    if (!dir_remove(in, name) && errno != ENOENT)
        return fail(in, name, ST_IO, "cannot be replaced", e);
    return dir_make(in, name, fd, e);
}

bool dir_remove(const struct dir *d, const char *name)
{
    dir_guard(d);
    return unlinkat(d->fd, name, 0) == 0;
}

bool dir_remove_folder(const struct dir *d, const char *name)
{
    dir_guard(d);
    return unlinkat(d->fd, name, AT_REMOVEDIR) == 0;
}

enum status dir_rename(const struct dir *from, const char *name, const struct dir *to, const char *new_name,
                       struct err *e)
{
    char target[PATH_MAX];
    dir_guard(from);
    if (renameat(from->fd, name, to->fd, new_name) == 0)
        return ST_OK;
    int why = errno;
    where(to, new_name, target);
    char text[PATH_MAX];
    return err_set(e, ST_IO, where(from, name, text), "cannot be renamed to %s: %s", target, strerror(why));
}

static enum status name_aside(const struct dir *d, const char *name, const char *word, char aside[DIR_NAME],
                              struct err *e)
{
    bool there = true;
    for (unsigned n = 1; there; n++) {
        snprintf(aside, DIR_NAME, "%.180s.%s.%u", name, word, n);
        TRY(dir_find(d, aside, &there, e));
    }
    return ST_OK;
}

enum status dir_put_aside(const struct dir *d, const char *name, const char *word, char aside[DIR_NAME], struct err *e)
{
    TRY(name_aside(d, name, word, aside, e));
    return dir_rename(d, name, d, aside, e);
}

enum status dir_keep_aside(const struct dir *d, const char *name, const char *word, char aside[DIR_NAME], struct err *e)
{
    TRY(name_aside(d, name, word, aside, e));
    dir_guard(d);
    if (linkat(d->fd, name, d->fd, aside, 0) == 0)
        return ST_OK;
    return dir_rename(d, name, d, aside, e); /* a file system without hard links */
}

/* ---- new files ------------------------------------------------------------------------------------------------ */

static enum status begin_in(struct dir_new *n, bool own, struct err *e)
{
    struct stat s;
    char word[17];
    if (own && fstatat(n->in.fd, n->name, &s, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(s.st_mode))
        return err_set(e, ST_USAGE, n->path, "is %s, expected a regular file or a new name", kind_of(s.st_mode));
    dir_guard(&n->in);
    for (int tries = 0; tries < 8; tries++) {
        dir_random_word(word);
        snprintf(n->temp, sizeof n->temp, "%.230s.%s.tmp", n->name, word);
        n->fd = openat(n->in.fd, n->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (n->fd >= 0 || errno != EEXIST)
            break;
    }
    return n->fd >= 0 ? ST_OK : err_set(e, ST_IO, n->path, "cannot be created: %s", strerror(errno));
}

enum status dir_new_begin(const struct dir *folder, const char *name, struct dir_new *n, struct err *e)
{
    char text[PATH_MAX];
    *n = (struct dir_new){ .fd = -1, .in = { .fd = -1 } };
    if (folder) {
        TRY(dir_copy(folder, &n->in, e));
        snprintf(n->name, sizeof n->name, "%.230s", name);
    } else {
        TRY(dir_of_path(name, &n->in, n->name, e));
    }
    n->path = mem_strdup(where(folder, name, text));
    enum status st = begin_in(n, !folder, e);
    if (st != ST_OK)
        dir_new_drop(n);
    return st;
}

enum status dir_new_publish(struct dir_new *n, struct err *e)
{
    dir_guard(&n->in);
    int bad = fsync(n->fd), why = errno;
    if (close(n->fd) != 0 && !bad) {
        bad = 1;
        why = errno;
    }
    n->fd = -1;
    if (bad)
        return err_set(e, ST_IO, n->path, "cannot be synced to disk: %s", strerror(why));
    if (renameat(n->in.fd, n->temp, n->in.fd, n->name) != 0)
        return err_set(e, ST_IO, n->path, "cannot be renamed to this: %s", strerror(errno));
    n->temp[0] = '\0';
    return sync_folder(n->in.fd)
               ? ST_OK
               : err_set(e, ST_IO, n->in.path, "its directory cannot be synced to disk: %s", strerror(errno));
}

void dir_new_drop(struct dir_new *n)
{
    if (n->fd >= 0 && n->path)
        close(n->fd);
    if (n->temp[0] && n->path)
        unlinkat(n->in.fd, n->temp, 0);
    mem_free(n->path);
    dir_close(&n->in);
    *n = (struct dir_new){ .fd = -1, .in = { .fd = -1 } };
}

/* The length of NAME in NAME.0123456789abcdef.tmp, and in NAME.tmp, as earlier versions wrote; else 0. */
static size_t temporary_of(const char *name)
{
    enum { WORD = 16, TAIL = 1 + WORD };
    size_t n = strlen(name);
    if (n <= 4 || strcmp(name + n - 4, ".tmp") != 0)
        return 0;
    n -= 4;
    bool word = n > TAIL && name[n - TAIL] == '.' && strspn(name + n - WORD, "0123456789abcdef") == WORD;
    return word ? n - TAIL : n;
}

void dir_remove_unfinished(const struct dir *d, bool (*ours)(const char *name))
{
    struct dir_names names = { 0 };
    struct err ignored = { 0 };
    char own[DIR_NAME];
    dir_list(d, &names, &ignored);
    for (uint32_t i = 0; i < names.n; i++) {
        size_t length = temporary_of(names.at[i]);
        snprintf(own, sizeof own, "%.*s", (int)length, names.at[i]);
        if (length && ours(own))
            dir_remove(d, names.at[i]);
    }
    dir_names_release(&names);
}
