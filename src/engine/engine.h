/* What _engine.so has beside the engine: many images at once, in threads; for ctypes. */
#ifndef LEANSPIKE_ENGINE_H
#define LEANSPIKE_ENGINE_H

#include "kernels.h"

/* A digest of what the library was built from: callers beside other sources must not call anything else. */
const char *ls_engine_sources(void);

#endif
