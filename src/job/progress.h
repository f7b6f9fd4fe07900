/* A compilation that takes longer than people wait without a word says on standard error what it is doing. */
#ifndef PIPER_JOB_PROGRESS_H
#define PIPER_JOB_PROGRESS_H

/* One at a time in a process. After two seconds, and then whenever that has changed, a line says what progress_say() was told last. */
void progress_begin(const char *what);
void progress_say(const char *what); /* static storage */
void progress_end(void);

#endif
