noinst_LTLIBRARIES += libpiper_ir.la
libpiper_ir_la_SOURCES = \
	ir/chunk.c ir/chunk.h \
	ir/dag.c ir/dag.h \
	ir/dag_print.c ir/dag_print.h \
	ir/family/annotate.c \
	ir/family/build.c ir/family/build.h \
	ir/family/cohere.c \
	ir/family/decoder.c ir/family/decoder.h \
	ir/family/dbrx.c \
	ir/family/deepseek.c \
	ir/family/dots.c \
	ir/family/ernie.c \
	ir/family/exaone.c \
	ir/family/explicit.c \
	ir/family/export.c ir/family/export.h \
	ir/family/falcon.c \
	ir/family/family.c ir/family/family.h \
	ir/family/files.c ir/family/files.h \
	ir/family/gemma.c \
	ir/family/glm.c \
	ir/family/gpt2.c \
	ir/family/gpt_neox.c \
	ir/family/gpt_oss.c \
	ir/family/gptj.c \
	ir/family/granite.c \
	ir/family/hf.c ir/family/hf.h \
	ir/family/hunyuan.c \
	ir/family/internlm2.c \
	ir/family/keys.c \
	ir/family/llama.c \
	ir/family/minicpm.c \
	ir/family/minimax.c \
	ir/family/olmo.c \
	ir/family/opt.c \
	ir/family/phi.c \
	ir/family/quantization.c ir/family/quantization.h \
	ir/family/qwen.c \
	ir/family/rope.c ir/family/rope.h \
	ir/family/starcoder2.c \
	ir/freeze.c ir/freeze.h \
	ir/graph.c ir/graph.h \
	ir/graph_unpack.c \
	ir/graph_validate.c \
	ir/machine.c ir/machine.h \
	ir/notices.c ir/notices.h \
	ir/op.c ir/op.h \
	ir/op_check.c \
	ir/split.c ir/split.h \
	ir/optimizer.c ir/optimizer.h \
	ir/plan.c ir/plan.h \
	ir/plan_open.c \
	ir/plan_parse.c \
	ir/plan_print.c \
	ir/plan_text.c ir/plan_text.h \
	ir/rope.c ir/rope.h \
	ir/scalar.h \
	ir/target.c ir/target.h \
	ir/target_cpu.c ir/target_cpu.h \
	ir/target_cuda.c ir/target_cuda.h \
	ir/target_cuda_own.c ir/target_cuda_own.h \
	ir/train.c ir/train.h

EXTRA_DIST += ir/README
