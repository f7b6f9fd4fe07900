UNIT_TESTS += tests/num/test_reference
tests_num_test_reference_SOURCES = tests/num/test_reference.c tests/num/naive.c tests/num/naive.h
tests_num_test_reference_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests $(CHECK_CFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_num_test_reference_LDADD = $(PIPER_IO) $(PIPER_CPU) $(CHECK_LIBS) -lm

EXTRA_DIST += \
	tests/num/reference/README \
	tests/num/reference/make_reference.py \
	tests/num/reference/gpt2/model.json \
	tests/num/reference/gpt2/reference.h5 \
	tests/num/reference/gpt2/weights.safetensors \
	tests/num/reference/llama/adamw.h5 \
	tests/num/reference/llama/model.json \
	tests/num/reference/llama/reference.h5 \
	tests/num/reference/llama/tokens.h5 \
	tests/num/reference/llama/train.json \
	tests/num/reference/llama/weights.safetensors \
	tests/num/reference/mixtral/model.json \
	tests/num/reference/mixtral/reference.h5 \
	tests/num/reference/mixtral/weights.safetensors \
	tests/num/reference/qwen3/model.json \
	tests/num/reference/qwen3/reference.h5 \
	tests/num/reference/qwen3/weights.safetensors \
	tests/num/reference/qwen3_moe/model.json \
	tests/num/reference/qwen3_moe/reference.h5 \
	tests/num/reference/qwen3_moe/weights.safetensors
