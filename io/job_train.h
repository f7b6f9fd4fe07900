/* /train of a job file: one dataset per setting. */
#ifndef PIPER_IO_JOB_TRAIN_H
#define PIPER_IO_JOB_TRAIN_H

#include "io/h5.h"
#include "io/sha256.h"
#include "ir/train.h"

enum status job__train_put(const struct h5_at *at, const struct train_config *t, struct err *e);
/* Every setting must be there, none more. Ranges are train_config_validate()'s. */
enum status job__train_get(const struct h5_at *at, struct train_config *t, struct err *e);
void job__train_hash(const struct train_config *t, struct sha256 *s);

#endif
