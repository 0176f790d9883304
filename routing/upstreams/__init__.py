"""The providers' side. The only package that imports litellm."""
