"""What pydantic found wrong, in one sentence: the name, what was given, what is allowed."""


def first_problem(error, model):
    """The first of pydantic's findings.

    Args:
        error: pydantic.ValidationError.
        model: the model class that raised it.

    Returns:
        str, such as "translate is 1.5; allowed: a whole number of at least 0".
    """
    found = error.errors()[0]
    if not found["loc"]:
        # A rule of several values together; or a name that is no text.
        return str(found.get("ctx", {}).get("error", found["msg"]))
    name = found["loc"][0]
    if found["type"] == "extra_forbidden":
        return f"there is no {name!r}; allowed: {', '.join(model.model_fields)}"
    given = f"{name} is {found['input']!r}"
    if found["type"] == "value_error":
        return f"{given}; {found['ctx']['error']}"
    return f"{given}; allowed: {allowed_values(model, name)}"


def allowed_values(model, name):
    """What a field of a pydantic model allows, in words, such as "a number of at least 0 and below 1"."""
    return _in_words(model.model_json_schema()["properties"][name])


def _in_words(schema):
    if "anyOf" in schema:
        return " or ".join(_in_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    kinds = {
        "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text",
        "null": "null",
    }  # fmt: skip
    limits = {
        "minimum": "of at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}",
        "exclusiveMaximum": "below {}", "multipleOf": "a multiple of {}", "minLength": "of at least {} letter",
    }  # fmt: skip
    said = [words.format(schema[key]) for key, words in limits.items() if key in schema]
    return " ".join([kinds[schema["type"]], " and ".join(said)]).strip()
