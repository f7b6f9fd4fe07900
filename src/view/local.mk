libpiper_main_la_SOURCES += \
	src/view/draw.h src/view/draw_plan.c src/view/draw_plan.h src/view/draw_spans.c src/view/draw_svg.c \
	src/view/draw_text.c src/view/draw_trace.c src/view/draw_trace.h src/view/simulate_other.c \
	src/view/simulate_text.c src/view/simulate_text.h src/view/trace_perfetto.c src/view/trace_summary.c \
	src/view/trace_summary.h src/view/trace_view.c src/view/trace_view.h
