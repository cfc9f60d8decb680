"""Starts MiniStack with one thing mended: when it deletes a nested stack, it would not look at what its template says to keep. Run by local.py alone."""

import asyncio

from ministack.app import main
from ministack.services.cloudformation import _stacks, provisioners, stacks


def delete_nested(identifier, _properties):
    """As MiniStack deletes a stack that is not nested."""
    name = provisioners._nested_stack_lookup_name(identifier)
    if name in _stacks:
        asyncio.run(stacks._delete_stack_async(name, identifier))


if __name__ == "__main__":
    provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Stack"]["delete"] = delete_nested
    main()
