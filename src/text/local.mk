noinst_LTLIBRARIES += libpiper_text.la
libpiper_text_la_SOURCES = \
	src/text/added.c src/text/added.h \
	src/text/bpe.c src/text/bpe.h \
	src/text/charsmap.c src/text/charsmap.h src/text/chat.c src/text/chat.h \
	src/text/decode.c src/text/encode.c \
	src/text/documents.c src/text/documents.h src/text/jsonl.c src/text/jsonl.h \
	src/text/source.c src/text/source.h src/text/source_codec.c \
	src/text/nfc.c src/text/nfc.h \
	src/text/pattern.c src/text/pattern.h src/text/pattern_parse.c src/text/pattern_pcre2.c src/text/pattern_set.c \
	src/text/protobuf.c src/text/protobuf.h src/text/scan.c \
	src/text/sentencepiece.c src/text/sentencepiece.h src/text/sentencepiece_encode.c \
	src/text/tiktoken.c src/text/tokenizer.c src/text/tokenizer.h src/text/tokenizer_config.c src/text/tokenizer_json.c \
	src/text/tokenizer_pieces.c src/text/trie.c src/text/trie.h \
	src/text/unicode.c src/text/unicode.h src/text/unicode_table.c src/text/unicode_table.h \
	src/text/unigram.c src/text/unigram.h src/text/vocabulary.c src/text/vocabulary.h
libpiper_text_la_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(ZLIB_CFLAGS) $(ZSTD_CFLAGS)
EXTRA_DIST += src/text/unicode_table.py

check_PROGRAMS += tests/text/encode
tests_text_encode_SOURCES = tests/text/encode.c
tests_text_encode_LDADD = $(PIPER_TEXT)

SCRIPT_TESTS += tests/text/small.sh tests/text/chats.sh tests/cli/data.sh
LONG_TESTS += tests/text/equal.sh tests/text/large.sh tests/text/points.sh
EXTRA_DIST += tests/text/chats.py tests/text/corpus.py tests/text/equal.py tests/text/equal.txt tests/text/kinds.py tests/text/small \
	tests/text/small.py tests/text/speed.py tests/text/speed_all.py
# a folder: make would make it of small.sh, by its rule for scripts
.PHONY: tests/text/small
