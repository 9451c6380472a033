# SPDX-License-Identifier: Apache-2.0
# What `cpack` makes of a build: a Debian package with what is installed. Which libraries it needs
# is read off the program; a Vulkan driver is for the user to choose.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME live2diff)
set(CPACK_PACKAGE_CONTACT "the developers of live2diff <live2diff@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "live video in another style, drawn by a diffusion model")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION video)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "mesa-vulkan-drivers | vulkan-icd")
include(CPack)
