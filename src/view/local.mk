libpiper_main_la_SOURCES += \
	src/view/chart.c src/view/chart.h src/view/curves.c src/view/curves.h src/view/draw.h src/view/draw_plan.c \
	src/view/draw_plan.h src/view/draw_select.c src/view/draw_spans.c src/view/draw_svg.c src/view/draw_text.c \
	src/view/draw_trace.c src/view/draw_trace.h src/view/escape.c src/view/escape.h src/view/follow.c src/view/follow.h \
	src/view/live.c src/view/live.h src/view/number_list.c src/view/number_list.h src/view/report.c src/view/report.h \
	src/view/run_log.c src/view/run_log.h src/view/run_metrics.c src/view/run_metrics.h src/view/simulate_other.c \
	src/view/simulate_text.c src/view/simulate_text.h src/view/text_table.c src/view/text_table.h src/view/trace_files.h \
	src/view/trace_perfetto.c src/view/trace_summary.c src/view/trace_summary.h src/view/trace_view.c \
	src/view/trace_view.h src/view/trace_walk.c src/view/trace_walk.h src/view/trace_words.c src/view/trace_words.h
if HAVE_OTF2
libpiper_main_la_SOURCES += src/view/trace_otf2.c src/view/trace_otf2.h src/view/trace_otf2_defs.c src/view/trace_otf2_index.c
else
libpiper_main_la_SOURCES += src/view/trace_otf2_none.c
endif
