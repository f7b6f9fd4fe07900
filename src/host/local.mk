libpiper_main_la_SOURCES += \
	src/host/cgroup.c src/host/cgroup.h src/host/memory_room.c src/host/memory_room.h src/host/quota.c src/host/quota.h src/host/threads.c \
	src/host/threads.h
