"""The functions that a template may call: Go's own, consul-template's as Nomad has them, sprig's by their prefix."""

# https://pkg.go.dev/text/template#hdr-Functions
_GO = """
and call eq ge gt html index js le len lt ne not or print printf println slice urlquery
"""
# consul-template 0.42 (docs/templating-language.md), which Nomad 2 is built with; all earlier names are in it.
_CONSUL_TEMPLATE = """
add base64Decode base64Encode base64URLDecode base64URLEncode byKey byMeta byPort byTag caLeaf caRoots connect contains
containsAll containsAny containsNone containsNotAll datacenters divide env envOrDefault executeTemplate explode
explodeMap exportedServices file hmacSHA256Hex importedServices in indent join key keyExists keyOrDefault loop ls
maximum md5sum mergeMap mergeMapWithOverride minimum modulo multiply mustEnv node nodes nomadService nomadServices
nomadVar nomadVarExists nomadVarList nomadVarListSafe parseBool parseFloat parseInt parseJSON parseUint parseYAML
partitions peerings pkiCert plugin regexMatch regexReplaceAll replaceAll safeLs safeTree scratch secret secrets service
services sha256Hex sockaddr spew_dump spew_printf spew_sdump spew_sprintf split splitToMap subtract timestamp toJSON
toJSONPretty toLower toTOML toTitle toUnescapedJSON toUnescapedJSONPretty toUpper toYAML tree trim trimPrefix trimSpace
trimSuffix writeToFile
"""
_FUNCTIONS = frozenset((_GO + _CONSUL_TEMPLATE).split())
SPRIG = "sprig_"
"""Before the name of each of sprig's functions."""


def is_function(name: str) -> bool:
    """Whether Nomad's templates know a function. `plugin` and `writeToFile`, which a Nomad client denies unless it is
    configured otherwise, are known; of sprig's functions only the prefix is looked at."""
    return name in _FUNCTIONS or name.startswith(SPRIG)


def similar(name: str) -> str:
    """A known function that differs only in upper and lower case; empty when there is none."""
    return next((known for known in sorted(_FUNCTIONS) if known.lower() == name.lower()), "")
