# All but main(): the program, and the one whose calls fail (tests/fault), are made of it.
noinst_LTLIBRARIES += libpiper_main.la
libpiper_main_la_SOURCES =
libpiper_main_la_CPPFLAGS = $(AM_CPPFLAGS) $(OTF2_CFLAGS) -DPIPER_MACHINES='"$(pkgdatadir)/machines"' -DPKGLIBDIR='"$(pkglibdir)"'
libpiper_main_la_CFLAGS = $(AM_CFLAGS) $(OPENMP_CFLAGS)
include src/host/local.mk
include src/rundir/local.mk
include src/job/local.mk
include src/exec/local.mk
include src/watch/local.mk
include src/speak/local.mk
include src/train/local.mk
include src/tune/local.mk
include src/view/local.mk
include src/cmd/local.mk

bin_PROGRAMS += piper
piper_SOURCES = src/main.c
# Modules use the program's own functions.
piper_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
piper_LDADD = libpiper_main.la libpiper_sched.la libpiper_comm.la libpiper_cpu.la libpiper_text.la $(PIPER_IO) $(PCRE2_LIBS) \
	$(ZLIB_LIBS) $(ZSTD_LIBS) $(OTF2_LIBS) $(CBLAS_LIBS) $(OPENMP_CFLAGS)

dist_man_MANS += \
	src/man/piper.1 src/man/piper-build.1 src/man/piper-calibrate.1 src/man/piper-checkpoint.1 src/man/piper-data.1 \
	src/man/piper-eval.1 src/man/piper-generate.1 src/man/piper-halt.1 src/man/piper-info.1 src/man/piper-plan.1 src/man/piper-plot.1 src/man/piper-report.1 src/man/piper-trace.1 src/man/piper-train.1 src/man/piper-tune.1 src/man/piper-watch.1 \
	src/man/piper-machine.5 src/man/piper-model.5 src/man/piper-strategy.5 src/man/piper-train-config.5 src/man/piper-tutorial.7 src/man/piper-zoo.7

bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
dist_zshcompletion_DATA = src/completions/_piper
fishcompletiondir = $(datadir)/fish/vendor_completions.d
dist_fishcompletion_DATA = src/completions/piper.fish
EXTRA_DIST += src/completions/piper.bash
# bash looks for a file with the command's name
install-data-local:
	$(MKDIR_P) $(DESTDIR)$(bashcompletiondir)
	$(INSTALL_DATA) $(srcdir)/src/completions/piper.bash $(DESTDIR)$(bashcompletiondir)/piper
uninstall-local:
	rm -f $(DESTDIR)$(bashcompletiondir)/piper
	-rmdir $(DESTDIR)$(jobscriptsdir) $(DESTDIR)$(exampledir) $(DESTDIR)$(machinesdir) $(DESTDIR)$(zoodir) $(DESTDIR)$(pkgdatadir) $(DESTDIR)$(docdir) $(DESTDIR)$(pkglibdir) 2>/dev/null || true

SCRIPT_TESTS += tests/check-runtime.sh

machinesdir = $(pkgdatadir)/machines
dist_machines_DATA = src/machines/a100.json src/machines/h100.json
