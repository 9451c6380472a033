# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: the program, one library made of all layers, its headers, a
# pkg-config file, the model and the clip.
add_library(l2d STATIC)
set(l2d_layers l2d_base l2d_tensor l2d_gpu l2d_kernels l2d_pipeline)
set(l2d_requires jansson vulkan libutf8proc libzip nettle yaml-0.1)
if(L2D_VIDEO)
    list(APPEND l2d_layers l2d_video_io)
    list(APPEND l2d_requires libavformat libavcodec libavdevice libavfilter libavutil libswscale
         libswresample sdl2 SDL2_ttf fontconfig)
endif()
list(JOIN l2d_requires " " l2d_requires)
foreach(layer ${l2d_layers})
    target_sources(l2d PRIVATE $<TARGET_OBJECTS:${layer}>)
endforeach()
set_target_properties(l2d PROPERTIES LINKER_LANGUAGE C)

install(TARGETS live2diff RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS l2d ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

set(l2d_include ${CMAKE_INSTALL_INCLUDEDIR}/live2diff)
install(FILES tools/live2diff.h DESTINATION ${l2d_include})
install(FILES runtime/base/atomic.h runtime/base/error.h runtime/base/frame.h runtime/base/log.h
              runtime/base/queue.h runtime/base/thread.h
        DESTINATION ${l2d_include}/base)
install(FILES runtime/gpu/device.h runtime/gpu/graph.h runtime/gpu/buffer.h
        DESTINATION ${l2d_include}/gpu)
install(FILES pipeline/stream.h pipeline/engine.h pipeline/config.h pipeline/geometry.h
              pipeline/change.h pipeline/dump.h pipeline/prompt.h
        DESTINATION ${l2d_include}/pipeline)
if(L2D_VIDEO)
    install(FILES video_io/reader.h video_io/sink.h video_io/display.h video_io/writer.h
                  video_io/libav.h
            DESTINATION ${l2d_include}/video_io)
endif()

file(RELATIVE_PATH l2d_pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH l2d_pc_lib ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH l2d_pc_include ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(tools/live2diff.pc.in live2diff.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/live2diff.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(DIRECTORY samples/models samples/clips DESTINATION ${CMAKE_INSTALL_DATADIR}/live2diff)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR}
        FILES_MATCHING PATTERN "*.md" PATTERN "*.jpg")
