"""IAM's documented evaluation of policies within one account: an explicit Deny wins, else any Allow, else denied. No maintained package fits: those
that evaluate policies offline leave out conditions, and the tag is one. What this does not know it refuses, so that nothing is passed over."""

import re

from template import document


def roles(stack):
    """The statements of each role of a stack, from the role itself and the policies beside it."""
    found = {}
    for name, role in stack.of_type("AWS::IAM::Role").items():
        properties = role["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for policy in stack.of_type("AWS::IAM::RolePolicy").values():
            if policy["Properties"]["RoleName"] == f"{name}.Ref":
                documents.append(policy["Properties"]["PolicyDocument"])
        found[name] = [statement for text in documents for statement in listed(document(text)["Statement"])]
    return found


def trust(stack, name):
    """Who may take a role."""
    return listed(document(stack.of_type("AWS::IAM::Role")[name]["Properties"]["AssumeRolePolicyDocument"])["Statement"])


def allowed(statements, action, resource="*", context=None, principal=None):
    """Whether these statements allow the action on the resource, in this context."""
    effects = [statement["Effect"] for statement in statements if applies(statement, action, resource, context or {}, principal)]
    return "Allow" in effects and "Deny" not in effects


def applies(statement, action, resource, context, principal):
    if unknown := statement.keys() - {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}:
        raise NotImplementedError(f"{unknown} in {statement}")
    return (
        any(like(pattern, action, fold=True) for pattern in listed(statement["Action"]))
        and any(like(pattern, resource) for pattern in listed(statement.get("Resource", "*")))
        and ("Principal" not in statement or fits(statement["Principal"], principal))
        and all(holds(operator, key, listed(values), context) for operator, keys in statement.get("Condition", {}).items() for key, values in keys.items())
    )


def fits(pattern, principal):
    return pattern == "*" or any(name in listed(pattern.get(kind, [])) for kind, name in (principal or {}).items())


def holds(operator, key, values, context):
    """Whether one condition holds. Keys are known without regard to case, and one that is absent fulfils none of these operators."""
    present = {name.lower(): value for name, value in context.items()}
    value = present.get(key.lower())
    if value is None:
        return False
    match operator:
        case "StringEquals" | "ArnEquals":
            return value in values
        case "StringLike" | "ArnLike":
            return any(like(pattern, value) for pattern in values)
        case "Bool":
            return value.lower() in [wanted.lower() for wanted in values]
    raise NotImplementedError(operator)


def like(pattern, text, fold=False):
    """IAM's wildcards."""
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, text, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def listed(value):
    return value if isinstance(value, list) else [value]
