"""What the commands here share: the AWS CLI ($AWS), and what a stack says of itself. Needs python3 and nothing else."""

import json
import os
import subprocess

AWS = os.environ.get("AWS", "aws")


class Refused(SystemExit):
    """A command of the AWS CLI failed. Its text is what the CLI said; uncaught, the program ends with it."""


def aws(*words):
    """What a command of the AWS CLI answers."""
    done = subprocess.run([AWS, *words, "--output", "json"], capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr.strip() or f"aws {' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout or "null")


def stack(name):
    """A stack as CloudFormation describes it, with its outputs and parameters by name."""
    found = aws("cloudformation", "describe-stacks", "--stack-name", name)["Stacks"][0]
    return found | {
        "Outputs": {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])},
        "Parameters": {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found.get("Parameters", [])},
    }
