/* engine_service.h - the service inside an engine, for programs of this project that
 * measure it without a door. */
#ifndef MF_LIB_ENGINE_SERVICE_H
#define MF_LIB_ENGINE_SERVICE_H

#include "memfuse/memfuse.h"
#include "service/service.h"

/* NULL when the engine is attached to another process.  Lives as long as the engine. */
mf_service *mf_engine_service(const mf_engine *engine);

#endif
