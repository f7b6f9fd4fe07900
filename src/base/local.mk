noinst_LTLIBRARIES += libpiper_base.la
libpiper_base_la_SOURCES = src/base/clock.h src/base/thread.h \
	src/base/dir.c src/base/dir.h \
	src/base/duration.c src/base/duration.h \
	src/base/fail.c src/base/fail.h \
	src/base/json.c src/base/json.h \
	src/base/library.c src/base/library.h \
	src/base/mem.c src/base/mem.h \
	src/base/parallel.c src/base/parallel.h \
	src/base/parse.c src/base/parse.h \
	src/base/ratio.c src/base/ratio.h \
	src/base/status.c src/base/status.h \
	src/base/version.c src/base/version.h \
	src/base/words.c src/base/words.h
nodist_libpiper_base_la_SOURCES = src/base/commit.h
BUILT_SOURCES += src/base/commit.h
CLEANFILES += src/base/commit.h

# The commit is a string in a header that only version.c includes; the file is touched only when it changes, so a new
# commit costs one small compilation. In a tarball the file .tarball-commit answers.
EXTRA_DIST += src/base/commit.sh
.PHONY: piper-commit
src/base/version.lo: src/base/commit.h
src/base/commit.h: piper-commit
	@$(MKDIR_P) src/base && $(SHELL) $(srcdir)/src/base/commit.sh $(srcdir) $@

dist-hook:
	$(SHELL) $(srcdir)/src/base/commit.sh $(srcdir) > $(distdir)/.tarball-commit
